"""The domain: pure, no clock, no I/O, no await. Time, ids and other entities' states come in with the command.

In reading order: `enums`, `events` and `commands` are the published language; `decider` says what a decider is;
`task_transitions` is the lifecycle as a table; then the deciders: `task` (with `task_reports` and `task_outcomes`),
`schedule` (with `schedule_fires`, `trigger`, `cron` and `misfire`), `job`, `agent`, `server`, `lease`.
`deciders.DECIDERS` names them all. Nothing is imported here: projections read `events` alone.
"""
