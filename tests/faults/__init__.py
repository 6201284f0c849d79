"""Breaks real processes on purpose: `make faults`, `python -m tests.faults --help`.

Reading order: `lines` (what each run leaves behind), `nominal` and `verdict` (what must have run, solved from those
lines alone), `cluster` (PostgreSQL, servers and agents as processes), `kinds` (the faults), `rounds`, `report`.
"""
