"""One interface to storage: logs of partitions, and the embedded one.

``async with open_log("sqlite:log.db") as log`` is all that most code needs.
"""

from broker.log.protocol import (
    MAX_BATCH_BYTES,
    MAX_OFFSET,
    MAX_PARTITIONS,
    MESSAGE_OVERHEAD_BYTES,
    Log,
    Message,
    Partition,
    StoredMessage,
    batch_bytes,
    physical,
)
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.log.url import check_url, open_log

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_OFFSET",
    "MAX_PARTITIONS",
    "MESSAGE_OVERHEAD_BYTES",
    "Log",
    "Message",
    "Partition",
    "SqliteLog",
    "StoredMessage",
    "batch_bytes",
    "check_url",
    "open_log",
    "physical",
]
