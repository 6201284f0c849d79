"""Agents' connections: greet, reconcile, send orders, take reports and output. Translate and delegate; decides nothing.

Reading order: `settings`, `translate` (messages to commands and back, pure), `outbox` (one connection's way out),
`reports` and `output` (its ways in), `connection` (one session), `greeting` (hello to welcome), `gateway` (all of
them, and the doors for scheduler and API), `listener` (the WebSocket).
"""
