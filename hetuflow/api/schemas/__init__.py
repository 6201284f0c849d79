"""The shapes of the contract's §4 and §6 as tables of members: one definition for parsers, answers and OpenAPI.

In reading order: `config` (TaskConfig), `job`, `schedule`, `task`, `instance`, `agent`, `server`, `event`, `system`.
"""
