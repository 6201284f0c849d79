"""The PostgreSQL that comes along: real, durable, on loopback, for `hetuflow dev`, the demo and the tests."""
