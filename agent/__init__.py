"""The daemon on a worker machine: dials out to a server, runs what it is told to run, and loses no report of it."""
