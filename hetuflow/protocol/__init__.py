"""What agent and server say to each other: messages, their bytes, and the order in which they may be said. Sans-I/O.

`messages` names them, `codec` turns them into frames and back, `session` holds the conversation's rules for both sides.
"""
