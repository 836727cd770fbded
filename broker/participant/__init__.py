"""Participants: what a publisher, a subscriber, a key access service and an auditor have in common.

Each of them holds keys, follows the directory, reads partitions by one loop, and settles what it appends.
Only what all four need stands in this room; publishing and reading records stand in rooms of their own, and
judging a message is pure and stands in ``verify``. Nothing here opens or closes a log.
"""

__all__: list[str] = []
