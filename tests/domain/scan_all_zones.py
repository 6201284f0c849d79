"""Every change of clocks of every zone, 2000-2037, minute by minute for two days: `python -m tests.domain.scan_all_zones`.

Takes some minutes, so it is no part of the suite; run it after a change of cron*.py or of tzdata. The first argument is
the number of expressions per change (4), the second a seed. Last run (`1 7`): 159 different zones, 5 967 changes, 2.3
million fires, no difference.
"""

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from hetuflow.domain.cron import count_between, occurrences, parse_cron
from tests.domain.test_cron_dst import Fields, scan

BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """The first minute after each change of offset, found by looking at every hour."""
    instant, offset = BEGIN, BEGIN.astimezone(zone).utcoffset()
    while instant < END:
        following = (instant + HOUR).astimezone(zone).utcoffset()
        if following != offset:
            yield next(
                minute
                for minute in (instant + n * MINUTE for n in range(1, 61))
                if minute.astimezone(zone).utcoffset() != offset
            )
        instant, offset = instant + HOUR, following


def some(values: list[int], star: float) -> frozenset[int] | None:
    values = sorted(set(values))
    return None if random.random() < star else frozenset(random.sample(values, random.randint(1, min(3, len(values)))))


def fields_near(around: list[datetime]) -> Fields:
    """An expression about the times within two hours of the change."""
    middle = len(around) // 2
    one, two = random.choices(around[middle - 120 : middle + 120], k=2)
    return Fields(
        seconds=frozenset({0}),
        minutes=some([0, 1, 30, 59, one.minute, two.minute], 0.35),
        hours=some([one.hour, two.hour, random.randint(0, 23)], 0.35),
        days=some([one.day, around[0].day, around[-1].day], 0.6),
    )


def main(expression_count: int = 4, seed: int = 1) -> int:
    random.seed(seed)
    seen: set[tuple[tuple[datetime, timedelta | None], ...]] = set()
    change_count = fire_count = difference_count = 0
    for name in sorted(available_timezones() - {"localtime"}):
        zone = ZoneInfo(name)
        instants = tuple(changes(zone))
        key = tuple((instant, instant.astimezone(zone).utcoffset()) for instant in instants)
        if key in seen:
            continue
        seen.add(key)
        for change in instants:
            change_count += 1
            around = [(change + minute * MINUTE).astimezone(zone) for minute in range(-1440, 1440)]
            after, until = around[0].astimezone(UTC), around[-1].astimezone(UTC)
            for _ in range(expression_count):
                fields = fields_near(around)
                expected = list(scan(fields, around, MINUTE))
                expression = parse_cron(fields.text, name)
                found = list(occurrences(expression, after, until))
                fire_count += len(expected)
                if found != expected or count_between(expression, after, until) != len(expected):
                    difference_count += 1
                    print(f"{name}: {fields.text!r} around {change}: {sorted(set(found) ^ set(expected))}")
    print(f"{len(seen)} zones, {change_count} changes, {fire_count} fires, {difference_count} differences")
    return 1 if difference_count else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
