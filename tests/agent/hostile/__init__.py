"""Programs that do not want to be ended, each in its own way, and the tests that end them.

The first argument is a token that stays on the command line whatever a program does to its environment, session and
parents: the tests search /proc for it, so they do not believe what they test. `SECONDS_MAX` bounds every one of them.
"""
