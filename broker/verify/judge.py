"""Judging one message as a manifest: what it is, and why it is none. Nothing changes by it.

In this order, cheap before dear, and void at the first that fails:

    (1) it has the form of a manifest message
    (2) its epoch exists and is not older than the one before the newest confirmed at the mark
    (3) its tag was not seen lately: a copy costs nothing
    (4) we hold the epoch's key; who does not skips it and its bodies as opaque
    (5) its tag is right: an outsider's garbage costs a microsecond
    (6) it opens, for this place, in the one right form
    (7) its view of the directory is a prefix of ours
    (8) its issuer was entitled at the larger of its own directory size and the mark,
        and the signature verifies
    (9) what it says of its records is allowed in the channel
   (10) its place in its stream

What the directory says of it may not have been read yet: then DirectoryBehind is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from broker.directory import EpochKey, History
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid, UsageError
from broker.log.protocol import StoredMessage
from broker.verify.entitlement import ACCESS_TOPIC, judge_channel, verify_manifest
from broker.verify.manifest_terms import check_record_terms
from broker.verify.streams import Step, StreamKey, Streams
from broker.verify.violations import Kind, Place
from broker.wire.envelope import Envelope, OpenedManifest, manifest_tag, open_manifest, parse_envelope

__all__ = [
    "MAX_TAGS",
    "Accepted",
    "DirectoryBehind",
    "Judge",
    "Newest",
    "Opaque",
    "Rejected",
    "Repeat",
    "Verdict",
    "batch_of_body",
]

MAX_TAGS = 65_536
_FOR_GOOD = -1
_UNACCOUNTED = "no valid manifest accounts for it"


class DirectoryBehind(Exception):
    """Flow control, not an error: read the directory to its end, then feed the same message again."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A manifest that passed (1) to (8); ``refused`` says what failed at (9), ``step`` is (10)."""

    opened: OpenedManifest
    tag: bytes
    judged_at: int
    step: Step
    refused: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a message is no valid manifest; ``tag`` where it was right, so that a copy costs nothing."""

    kind: Kind
    detail: str
    cause: Place | None = None
    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest manifest of a stream, as far as recognising its copy needs."""

    tag: bytes
    manifest_id: bytes
    digests: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """The newest statement of a stream once more: it counts once, if its bodies follow."""

    newest: Newest


@dataclass(frozen=True, slots=True)
class Opaque:
    """A manifest of an epoch that we hold no key of, or a body behind one."""


Verdict = Accepted | Rejected | Repeat | Opaque


def batch_of_body(key: bytes | None) -> bytes | None:
    """The manifest_id that a body message's key continues."""
    return key[:16] if key is not None and len(key) == 20 else None


class Judge:
    """What judging manifests of one partition needs to know: directory, keys, mark, tags and streams."""

    def __init__(
        self,
        topic: str,
        partition: int,
        history: History,
        keys: Callable[[int], EpochKey | None],
        directory_fault: Callable[[int], Place | None] | None,
        mark: int,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.mark = mark
        self.streams = Streams()
        self.opaque_id: bytes | None = None
        self._history = history
        self._keys = keys
        self._directory_fault = directory_fault or (lambda _size: None)
        self._tags: dict[bytes, int] = {}
        """The mark at which a copy of each is void too, or _FOR_GOOD."""
        self._tag_order: deque[bytes] = deque()
        self._newest: dict[StreamKey, Newest] = {}
        self._newest_by_tag: dict[bytes, Newest] = {}

    # remembering, in bounded memory

    def remember_tag(self, tag: bytes, mark: int = _FOR_GOOD) -> None:
        """Remember a right tag, and forget the oldest of too many."""
        if tag not in self._tags:
            self._tag_order.append(tag)
        self._tags[tag] = mark
        if len(self._tag_order) > MAX_TAGS:
            del self._tags[self._tag_order.popleft()]

    def remember_rejected(self, rejected: Rejected) -> None:
        """Remember what was rejected with a right tag, as long as a copy of it would be.

        Who is not entitled now may be so at a later mark: whoever did not remember would then deliver
        the copy, so everybody judges it anew.
        """
        if rejected.tag is not None:
            self.remember_tag(rejected.tag, self.mark if rejected.kind is Kind.NOT_ENTITLED else _FOR_GOOD)

    def advance(self, stream: StreamKey, newest: Newest, verdict: Accepted) -> None:
        """Move the stream's head and the mark to an accepted manifest."""
        if verdict.step.head is None:
            return
        closed = self.streams.put(stream, verdict.step.head)
        for gone in (stream, closed):
            older = None if gone is None else self._newest.pop(gone, None)
            if older is not None:
                self._newest_by_tag.pop(older.tag, None)
        self._newest[stream] = self._newest_by_tag[newest.tag] = newest
        self.mark = max(self.mark, verdict.opened.manifest.header.directory_size)

    # judging

    def judge(self, message: StoredMessage, directory_read: bool) -> Verdict:
        """What this message is; nothing changes."""
        envelope = parse_envelope(message.key, message.value)  # (1)
        if envelope is None:
            if self.opaque_id is not None and batch_of_body(message.key) == self.opaque_id:
                return Opaque()
            return Rejected(Kind.UNACCOUNTED, _UNACCOUNTED)
        rejected = self._judge_epoch(envelope, directory_read)  # (2)
        if rejected is not None:
            return rejected
        if self._tags.get(envelope.tag) in (_FOR_GOOD, self.mark):  # (3)
            newest = self._newest_by_tag.get(envelope.tag)
            if newest is not None and newest.manifest_id == message.key:
                return Repeat(newest)
            return Rejected(Kind.MANIFEST_COPIED, "copy of an earlier manifest")
        epoch_key = self._keys(envelope.epoch)  # (4)
        if epoch_key is None:
            return Opaque()
        tag = manifest_tag(
            epoch_key.admit, self.topic, self.partition, envelope.epoch, envelope.manifest_id, envelope.sealed
        )
        if tag != envelope.tag:
            return Rejected(Kind.UNACCOUNTED, _UNACCOUNTED)  # (5)
        try:
            opened = open_manifest(
                envelope,
                genesis=self._history.latest.genesis,
                topic=self.topic,
                partition=self.partition,
                key=epoch_key.key,
            )  # (6)
        except (OpenError, FormatError, UsageError) as error:
            return Rejected(Kind.MANIFEST_MALFORMED, error.message, tag=tag)
        return self._judge_opened(opened, message.offset, tag, directory_read)

    def _judge_epoch(self, envelope: Envelope, directory_read: bool) -> Rejected | None:
        latest = self._history.latest
        channel = latest.channel_at(self.partition)
        epoch = channel.epochs.get(envelope.epoch) if channel else None
        if epoch is None or epoch.confirmed_at is None:
            if not directory_read:
                raise DirectoryBehind
            # Only an epoch that may have been there can be missing because the directory was altered.
            lost = channel is None or envelope.epoch <= channel.newest_published + 1
            cause = self._directory_fault(latest.size + 1) if lost else None
            return Rejected(Kind.EPOCH_UNKNOWN, f"epoch {envelope.epoch} is not confirmed", cause)
        marked = self._history.at(min(self.mark, latest.size)).channel_at(self.partition)
        if marked is not None and envelope.epoch < marked.oldest_accepted:
            return Rejected(Kind.EPOCH_SUPERSEDED, f"epoch {envelope.epoch} was superseded twice")
        return None

    def _judge_opened(
        self, opened: OpenedManifest, offset: int, tag: bytes, directory_read: bool
    ) -> Accepted | Rejected:
        header, history = opened.manifest.header, self._history
        size = header.directory_size
        if size > history.latest.size and not directory_read:
            raise DirectoryBehind
        if not 0 <= size <= history.latest.size:
            detail = f"directory_size {size} of '{header.issuer}' is beyond {history.latest.size}"
            return Rejected(Kind.VIEW_UNKNOWN, detail, self._directory_fault(size), tag)  # (7)
        if history.head_at(size) != header.directory_head:
            detail = f"'{header.issuer}' saw another directory of {size} statements"
            return Rejected(Kind.VIEW_UNKNOWN, detail, self._directory_fault(size), tag)
        judged_at = max(size, min(self.mark, history.latest.size))
        directory = history.at(judged_at)
        try:
            verify_manifest(directory, opened)  # (8)
        except NotEntitled as error:
            return Rejected(Kind.NOT_ENTITLED, error.message, None, tag)
        except SignatureInvalid as error:
            return Rejected(Kind.MANIFEST_SIGNATURE, error.message, None, tag)
        refused = None
        if self.topic != ACCESS_TOPIC:
            try:
                check_record_terms(directory, judge_channel(directory, self.partition), opened)  # (9)
            except NotEntitled as error:
                refused = error.message
        step = self.streams.judge(header, opened.batch_id, offset)  # (10)
        return Accepted(opened, tag, judged_at, step, refused)
