"""LATE entries: batches of the access log that somebody cut off after they were durable, put back.

The batches within a LATE entry count as if they had never been cut: the key access service and the replay
both apply their collections and erasures. Otherwise an operator could undo an erasure by cutting the log, or
by cutting it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from broker.directory import EpochKey, History
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid, UsageError
from broker.verify.entitlement import ACCESS_TOPIC, verify_manifest
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import LateTerms, LostMessage

__all__ = ["MAX_NESTED", "LostBatch", "SealedLost", "lost_batches"]

MAX_NESTED = 32
"""How many LATE entries may lie within each other, so that few bytes cost little memory."""

_Keys = Callable[[int], EpochKey | None]


class LostBatch(NamedTuple):
    """A batch of the access log that was cut off and put back, and the values of its bodies.

    ``within`` are the LATE entries around it that were cut off themselves, the outermost first: each batch,
    and the index of the entry in it.
    """

    opened: OpenedManifest
    bodies: tuple[bytes, ...]
    within: tuple[tuple[LostBatch, int], ...]


class SealedLost(NamedTuple):
    """A lost message of an epoch whose key we do not hold, so that we cannot say what it was."""

    epoch: int


def lost_batches(
    messages: Sequence[LostMessage],
    *,
    history: History,
    partition: int,
    keys: _Keys,
) -> Iterator[LostBatch | SealedLost | str]:
    """Yield each batch among the messages of a LATE entry, or a text that says what is wrong.

    Where a log is cut a second time, the LATE entries of the first cut are cut off too, and put back. So a
    lost batch with LATE entries is followed by the batches within those, however deep. Behind a text nothing
    is yielded of the same LATE entry: where a message is wrong, the borders of the next are unknown.
    """
    # A stack and not a recursion, since an adversary chooses the depth.
    stack = [_batches_of(messages, (), history, partition, keys)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield found
        if not isinstance(found, LostBatch):
            continue
        for index, term in enumerate(found.opened.entries.term_of):
            terms = found.opened.entries.terms[term]
            if not isinstance(terms, LateTerms):
                continue
            if len(found.within) >= MAX_NESTED:
                yield f"more than {MAX_NESTED} LATE entries within each other"
                continue
            within = (*found.within, (found, index))
            stack.append(_batches_of(terms.messages, within, history, partition, keys))


def _batches_of(
    messages: Sequence[LostMessage],
    within: tuple[tuple[LostBatch, int], ...],
    history: History,
    partition: int,
    keys: _Keys,
) -> Iterator[LostBatch | SealedLost | str]:
    at = 0
    while at < len(messages):
        opened = _open_lost(messages[at], history, partition, keys)
        if not isinstance(opened, OpenedManifest):
            yield opened
            return
        count = opened.manifest.count
        bodies = tuple(body.value for body in messages[at + 1 : at + 1 + count])
        if b"".join(sha256(body).digest() for body in bodies) != opened.entries.digests:
            yield "the bodies are not those of its manifest"
            return
        yield LostBatch(opened, bodies, within)
        at += 1 + count


def _open_lost(
    message: LostMessage, history: History, partition: int, keys: _Keys
) -> OpenedManifest | SealedLost | str:
    envelope = parse_envelope(message.key, message.value)
    channel = history.latest.channel_at(partition)
    epoch = None if envelope is None or channel is None else channel.epochs.get(envelope.epoch)
    if envelope is None or epoch is None or epoch.confirmed_at is None:
        return "no manifest that opens"
    key = keys(envelope.epoch)
    if key is None:
        return SealedLost(envelope.epoch)
    try:
        opened = open_manifest(
            envelope,
            topic=ACCESS_TOPIC,
            partition=partition,
            keys=key.keys,
        )
        if opened is None:
            return "no manifest that opens"
        # Judged by the directory that it claims. It was judged by its place too, while it stood there.
        verify_manifest(history.latest, history.at(opened.manifest.header.directory_size), opened)
    except (OpenError, FormatError, UsageError, NotEntitled, SignatureInvalid) as error:
        return error.message
    return opened
