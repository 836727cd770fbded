"""Subscribing and consulting: records are verified, their reading is logged, and then they are unlocked.

This room asks the key access service, keeps its receipts, opens what it released and remembers how far a
subscriber has read. Records are unlocked in ``delivery`` and nowhere else in the house. Deciding who may read
does not belong here (``access``), nor does judging what others wrote to the log (``verify``), nor does
writing records into files (``connectors``).
"""

__all__: list[str] = []
