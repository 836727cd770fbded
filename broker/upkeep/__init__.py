"""Upkeep: the log as whoever runs it looks after it: looked over for what must not be there, and copied.

Nothing here needs a key. What a check finds is a reason to ask an auditor for a replay, and no verdict.
"""

__all__: list[str] = []
