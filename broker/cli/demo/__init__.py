"""The demo: a coalition of states that do not exist, from its founding to an audit.

It plays on a real log with real keys, through the same code as every other command, and leaves its folder
behind so that its user can go on. ``world`` says who takes part, ``story`` tells the eight chapters,
``acts`` does what the agencies do, and ``narrator`` prints.
"""

__all__: list[str] = []
