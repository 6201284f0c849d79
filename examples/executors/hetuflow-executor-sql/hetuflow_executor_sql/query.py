"""Runs one statement in SQLite: `python query.py DATABASE`, the statement and its parameters as JSON on the standard input."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys


def main() -> int:
    query = json.load(sys.stdin)
    try:
        with sqlite3.connect(sys.argv[1]) as connection:
            rows = connection.execute(query["sql"], query["parameters"])
            names = [column[0] for column in rows.description or ()]
            if query["format"] == "json":
                for row in rows:
                    print(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
            elif names:
                table = csv.writer(sys.stdout, lineterminator="\n")
                table.writerow(names)
                table.writerows(rows)
    except sqlite3.Error as exc:
        print(f"{sys.argv[1]}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
