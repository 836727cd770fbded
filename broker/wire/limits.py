"""Limits of a batch, which whoever writes, reads or stores it holds to.

They are part of the format. Every reader refuses a batch beyond one of them, so a higher limit is a new
format.
"""

from __future__ import annotations

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_MEMBER_SEALS",
    "MAX_RECORDS",
    "MAX_TARGETS",
    "MESSAGE_OVERHEAD",
]

MAX_RECORDS = 256
"""The most records in a batch."""

MAX_TARGETS = 256
"""The most targets that the records of a batch have together."""

MAX_MEMBER_SEALS = 128
"""The most keys to which a batch's member share is sealed."""

MAX_BATCH_BYTES = 1_000_000
"""The largest batch that the format allows: keys, values, and MESSAGE_OVERHEAD for each message, in bytes.

A batch must fit one append, so this is never more than the log's own limit, ``MAX_APPEND_BYTES`` of
broker/log/protocol.py. They are two numbers on purpose: the format's is fixed for as long as old batches are
read, the log's may grow. A test in tests/wire holds them together.
"""

MESSAGE_OVERHEAD = 80
"""The bytes that the format counts for each message beside its key and value, as the log does.

No log adds more to a message; Kafka adds fewer.
"""
