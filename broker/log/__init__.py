"""Logs: one interface to ordered storage, and its two implementations.

``async with open_log("sqlite:log.db") as log`` is all that most code needs.

The room holds the interface (protocol), what the copying of a log needs beyond it (copyable), the choice of
an implementation by a URL (url), what both implementations share (append_times, outage, pause), and a folder
for each implementation. A log stores bytes: nothing here knows a batch, a manifest or a key, and the room
imports nothing of ``broker`` but errors, files, clock and logger. Code outside asks :func:`open_log` for a
log and uses :class:`Log`; it must not find out which log runs. Only ``log/kafka`` imports aiokafka, and only
a ``kafka:`` URL loads that folder.
"""

from broker.log.copyable import CopyableLog, TopicShape
from broker.log.protocol import (
    MAX_APPEND_BYTES,
    MAX_OFFSET,
    MAX_PARTITIONS,
    MESSAGE_OVERHEAD_BYTES,
    Log,
    Message,
    Partition,
    StoredMessage,
    append_bytes,
    physical,
)
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.log.url import check_url, open_copyable, open_log

__all__ = [
    "MAX_APPEND_BYTES",
    "MAX_OFFSET",
    "MAX_PARTITIONS",
    "MESSAGE_OVERHEAD_BYTES",
    "CopyableLog",
    "Log",
    "Message",
    "Partition",
    "SqliteLog",
    "StoredMessage",
    "TopicShape",
    "append_bytes",
    "check_url",
    "open_copyable",
    "open_log",
    "physical",
]
