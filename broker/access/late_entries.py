"""LATE entries: batches of the access log that somebody cut off after they were durable, put back.

The batches within a LATE entry count as if they had never been cut: the key access service and the replay
both apply their collections and erasures. Otherwise an operator could undo an erasure by cutting the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from broker.directory import EpochKey, History
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid, UsageError
from broker.verify.entitlement import ACCESS_TOPIC, verify_manifest
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import LostMessage

__all__ = ["lost_manifests"]


def lost_manifests(
    messages: Sequence[LostMessage],
    *,
    history: History,
    partition: int,
    keys: Callable[[int], EpochKey | None],
) -> Iterator[OpenedManifest | str]:
    """Yield each manifest among cut messages whose bodies follow it, or a text that says what is wrong.

    Nothing is yielded behind such a text: where a message is wrong, the borders of the next are unknown.
    """
    at = 0
    while at < len(messages):
        opened = _open_lost(messages[at], history, partition, keys)
        if isinstance(opened, str):
            yield opened
            return
        count = opened.manifest.count
        bodies = messages[at + 1 : at + 1 + count]
        digests = b"".join(sha256(body.value).digest() for body in bodies)
        if digests != opened.entries.digests:
            yield "the bodies are not those of its manifest"
            return
        yield opened
        at += 1 + count


def _open_lost(
    message: LostMessage, history: History, partition: int, keys: Callable[[int], EpochKey | None]
) -> OpenedManifest | str:
    envelope = parse_envelope(message.key, message.value)
    key = None if envelope is None else keys(envelope.epoch)
    if envelope is None or key is None:
        return "no manifest that opens"
    try:
        opened = open_manifest(
            envelope,
            genesis=history.latest.genesis,
            topic=ACCESS_TOPIC,
            partition=partition,
            key=key.key,
        )
        # Judged by the directory that it claims. It was judged by its place too, while it stood there.
        verify_manifest(history.latest, history.at(opened.manifest.header.directory_size), opened)
    except (OpenError, FormatError, UsageError, NotEntitled, SignatureInvalid) as error:
        return error.message
    return opened
