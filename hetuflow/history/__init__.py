"""What the log is good for besides running things: commands kept with their events, decisions taken again, logs carried
elsewhere. `recorded_commands` (what was asked), `replay` (a log through the current code), `timeline` (a stream for
people), `archive` (export and import).
"""
