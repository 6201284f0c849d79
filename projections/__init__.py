"""Tables folded from the log: what people, the REST API and the scheduler's start read.

Reading order: `definition` (a projection as data), `jobs` … `servers` and `open_work` (the definitions), `tables` (all
of them), `compile_sql` with `slot`, `expressions` and `ddl` (one interpreter), `fold` (the other), `runner` (follows the log),
`rebuild` (fills a fresh table beside the live one), `queries` (pages and rows), `output` (captured output, not a fold).
"""
