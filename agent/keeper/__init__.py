"""The keeper: the small process beside an agent that starts programs, holds their output, and ends them in time.

It outlives the agent: a kill or an upgrade of the agent does not touch what runs. `messages` is what the two say to each
other over a Unix socket, `system` what the keeper asks of the operating system.
"""
