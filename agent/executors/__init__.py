"""What runs a task when its program alone is not enough: environments of Python, WebAssembly modules, executors of others.

In reading order: `api` (what an executor of your own implements), `requirements` (what an environment is made from),
`environments` (built once, kept, cleaned), `python`, `wasm` and `wasm_runner`, `installed` and `preparer` (entry points).
Nothing here is imported before the first task that needs it.
"""
