"""Reading a partition that others write: every message is accounted for.

Theory of operation. ``feed`` takes the messages of one partition in order and returns events:
a VerifiedBatch when the last body of a valid manifest has come, a Violation for whatever must not
be there. It never raises on data, never waits, and holds a bounded state:

    manifest | body 0 | body 1 | … | body n-1

The n messages behind a valid manifest are its bodies. The first that is not (digest, key or kind
differs) voids the batch, and reading resumes at that message. A message that no valid manifest
accounts for is a violation; consecutive ones are one violation with a count.

A manifest is judged in this order, cheap before dear, and void at the first that fails:

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

The mark is the largest directory size of the valid statements so far. What the directory says of a
manifest may not have been read yet: then ``feed`` raises DirectoryBehind, having changed nothing;
the caller reads the directory to its end and feeds the message again with ``directory_read=True``.

One manipulation makes one root violation; what follows from it names the root in ``caused_by``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from broker.directory import EpochKey, History
from broker.errors import FormatError, NotEntitled, OpenError, SignatureInvalid, UsageError
from broker.formats.batch import Envelope, OpenedManifest, manifest_tag, open_manifest, parse_envelope
from broker.formats.manifest import Header
from broker.log.protocol import StoredMessage
from broker.verify.entitled import ACCESS_TOPIC, judge_channel, verify_manifest
from broker.verify.streams import Head, Step, StreamKey, Streams
from broker.verify.terms import check_record_terms
from broker.verify.violations import Kind, Place, Violation

__all__ = ["DirectoryBehind", "Event", "PartitionReader", "ReaderState", "VerifiedBatch"]

MAX_TAGS = 65_536
_MAX_BLAMED = 64
_MAX_EXPECTED = 4096
_MAX_ROOTS = 256
_U32 = tuple(i.to_bytes(4, "big") for i in range(256))


class DirectoryBehind(Exception):
    """Flow control, not an error: read the directory to its end, then feed the same message again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBatch:
    """A batch that stands: entitled issuer, signature, stream, every body digest.

    ``judged_at`` is the directory size that its issuer was judged at; ``bodies`` are the values of
    the body messages, empty where the reader was told not to keep them.
    """

    topic: str
    partition: int
    offset: int
    appended_at: int
    judged_at: int
    opened: OpenedManifest
    bodies: tuple[bytes, ...]

    @property
    def batch_id(self) -> bytes:
        """The only name of the batch."""
        return self.opened.batch_id

    @property
    def header(self) -> Header:
        """The header of its manifest."""
        return self.opened.manifest.header


Event = VerifiedBatch | Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderState:
    """All that a reader must remember to resume: the next offset, the mark and the stream heads."""

    next_offset: int
    mark: int
    heads: tuple[tuple[StreamKey, int, bytes, int], ...] = ()


@dataclass(slots=True)
class _Pending:
    """A manifest whose bodies are awaited; ``undo`` restores what its acceptance changed.

    ``batch`` is what a whole batch delivers, None for a repeat or what must not be delivered;
    a ``silent`` one was reported already. ``cause`` is the root of what was reported of it.
    """

    manifest_id: bytes
    offset: int
    digests: bytes
    count: int
    batch: VerifiedBatch | None = None
    undo: tuple[StreamKey, Head | None, int] | None = None
    cause: Place | None = None
    silent: bool = False
    void_kind: Kind = Kind.BATCH_VOID
    seen: int = 0
    bodies: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """Consecutive messages rejected for one reason, not yet reported."""

    kind: Kind
    place: Place
    detail: str
    cause: Place | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A manifest that passed (1) to (8); ``refused`` says what failed at (9), ``step`` is (10)."""

    opened: OpenedManifest
    tag: bytes
    judged_at: int
    step: Step
    refused: str | None


@dataclass(frozen=True, slots=True)
class _Rejected:
    """Why a message is no valid manifest; ``tag`` where it was right, so that a copy costs nothing."""

    kind: Kind
    detail: str
    cause: Place | None = None
    tag: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Repeat:
    """The newest statement of a stream once more: it counts once, if its bodies follow."""

    stream: StreamKey


@dataclass(frozen=True, slots=True)
class _Opaque:
    """A manifest of an epoch that we hold no key of, or a body behind one."""


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest manifest of a stream, as far as recognising its copy needs."""

    tag: bytes
    manifest_id: bytes
    digests: bytes
    count: int


_Verdict = _Accepted | _Rejected | _Repeat | _Opaque
_NO_STREAM: StreamKey = ("", -1, b"")


def _batch_of_body(key: bytes | None) -> bytes | None:
    """The manifest_id that a body message's key continues."""
    return key[:16] if key is not None and len(key) == 20 else None


class PartitionReader:
    """The state of reading one partition, from its first message or from a ReaderState.

    ``keys(epoch)`` gives the metadata key (record topics) or access key (``access``) of an epoch of
    the partition's channel, or None where the reader was no recipient of it. ``directory_fault(size)``
    gives the place of the first violation in the directory below that size, for naming causes.
    """

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        history: History,
        keys: Callable[[int], EpochKey | None],
        keep_bodies: bool = True,
        state: ReaderState | None = None,
        directory_fault: Callable[[int], Place | None] | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.opaque = 0
        self.next_offset = state.next_offset if state else 0
        self.mark = state.mark if state else 0
        self._history = history
        self._keys = keys
        self._keep_bodies = keep_bodies
        self._directory_fault = directory_fault or (lambda _size: None)
        self._streams = Streams()
        self._pending: _Pending | None = None
        self._run: _Run | None = None
        self._events: list[Event] = []
        self._tags: OrderedDict[bytes, StreamKey] = OrderedDict()
        self._newest: dict[StreamKey, _Newest] = {}
        self._opaque_id: bytes | None = None
        self._roots: deque[Place] = deque(maxlen=_MAX_ROOTS)
        self._blamed: OrderedDict[bytes, Place] = OrderedDict()
        self._expected: OrderedDict[bytes, Place] = OrderedDict()
        self._trouble: tuple[int, Place] | None = None
        for key, sequence, digest, offset in state.heads if state else ():
            self._streams.put(key, Head(sequence, digest, offset))

    # reading

    def feed(self, message: StoredMessage, *, directory_read: bool = False) -> Sequence[Event]:
        """Take the next message; offsets must rise. Returns what it completes or breaks, in order."""
        offset, key, value, _ = message
        pending = self._pending
        if pending is not None and offset == self.next_offset and value is not None:
            i = pending.seen
            if (
                key == pending.manifest_id + _U32[i]
                and sha256(value).digest() == pending.digests[i * 32 : i * 32 + 32]
            ):
                self.next_offset = offset + 1
                pending.seen = i + 1
                if self._keep_bodies:
                    pending.bodies.append(value)
                return self._complete(pending) if pending.seen == pending.count else ()
        return self._feed_other(message, directory_read)

    def flush(self, *, at_end: bool = False) -> Sequence[Event]:
        """What is not yet reported; ``at_end`` says that nothing follows any more."""
        self._flush_run()
        pending = self._pending
        if at_end and pending is not None and not pending.silent:
            detail = f"the log ends behind {pending.seen} of {pending.count} bodies"
            kind = Kind.BATCH_UNFINISHED if pending.void_kind is Kind.BATCH_VOID else pending.void_kind
            self._violate(kind, pending.offset, detail, pending.cause)
        return self._take()

    @property
    def settled_offset(self) -> int:
        """The offset up to which every batch was whole: of the awaited manifest, or the next."""
        return self._pending.offset if self._pending else self.next_offset

    def snapshot(self) -> ReaderState:
        """The state to resume from; an unfinished batch is read again from its manifest."""
        heads = {key: (head.sequence, head.digest, head.offset) for key, head in self._streams.items()}
        mark = self.mark
        if self._pending is not None and self._pending.undo is not None:
            key, before, mark = self._pending.undo
            heads.pop(key, None)
            if before is not None:
                heads[key] = (before.sequence, before.digest, before.offset)
        return ReaderState(
            next_offset=self.settled_offset,
            mark=mark,
            heads=tuple((key, *head) for key, head in heads.items()),
        )

    # what arrives

    def _feed_other(self, message: StoredMessage, directory_read: bool) -> Sequence[Event]:
        verdict = self._judge(message, directory_read)
        if message.offset != self.next_offset:
            self._missing(message.offset)
        accounted = self._pending is not None and self._void(self._pending, message, verdict)
        self.next_offset = message.offset + 1
        if not accounted:
            match verdict:
                case _Accepted():
                    self._accept(message, verdict)
                case _Rejected():
                    self._reject(message, verdict)
                case _Repeat():
                    self._repeat(message.offset, self._newest[verdict.stream])
                case _Opaque():
                    self._flush_run()
                    self.opaque += 1
                    self._opaque_id = (message.key or b"")[:16]
        return self._take()

    def _complete(self, pending: _Pending) -> Sequence[Event]:
        self._pending = None
        if pending.batch is None:
            return ()
        return (replace(pending.batch, bodies=tuple(pending.bodies)),)

    def _missing(self, offset: int) -> None:
        count = offset - self.next_offset
        detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
        root = self._violate(Kind.OFFSET_MISSING, self.next_offset, detail, None, count)
        self._trouble = (offset, root)
        if self._pending is not None:
            self._end_batch(self._pending, root, f"message {self.next_offset} is missing")

    def _void(self, pending: _Pending, message: StoredMessage, verdict: _Verdict) -> bool:
        """End the awaited batch, since this message is not its next body; True if that accounts for it.

        Where the fault lies: at the message, if it is a body of this batch that was altered or moved,
        or if nothing accounts for it; else at the manifest, which stands where it does not belong.
        """
        owner = _batch_of_body(message.key)
        wanted = f"body {pending.seen} of the batch at offset {pending.offset}"
        detail = f"message {message.offset} is not {wanted}"
        cause = pending.cause or self._cause_by_digest(message)
        if pending.silent:
            self._end_batch(pending, cause, detail)
            return False
        if owner == pending.manifest_id:
            altered = message.key == owner + _U32[pending.seen]
            kind = Kind.BODY_ALTERED if altered else Kind.BODY_MISPLACED
            why = f"{wanted} was altered" if altered else f"another body stands where {wanted} belongs"
            root = self._violate(kind, message.offset, why, cause)
            self._end_batch(pending, root, detail)
            self._trouble = (message.offset + 1, root)
            return True
        if isinstance(verdict, _Rejected) and not (owner and pending.seen == 0):
            root = self._reject(message, replace(verdict, cause=verdict.cause or cause))
            self._end_batch(pending, root, detail)
            return True
        root = self._end_batch(pending, cause, detail)
        if owner:
            self._blame(owner, root)
        return False

    def _end_batch(self, pending: _Pending, root: Place | None, detail: str) -> Place:
        """Void the awaited batch and remember what would have belonged to it; returns the root."""
        self._pending = None
        if pending.silent:
            root = root or Place(self.topic, self.partition, pending.offset)
        else:
            root = self._violate(pending.void_kind, pending.offset, detail, root)
        self._blame(pending.manifest_id, root)
        for i in range(pending.seen, pending.count):
            self._expected[pending.digests[i * 32 : i * 32 + 32]] = root
        while len(self._expected) > _MAX_EXPECTED:
            self._expected.popitem(last=False)
        return root

    # judging a message as a manifest; changes nothing

    def _judge(self, message: StoredMessage, directory_read: bool) -> _Verdict:
        envelope = parse_envelope(message.key, message.value)  # (1)
        if envelope is None:
            if self._opaque_id is not None and _batch_of_body(message.key) == self._opaque_id:
                return _Opaque()
            return _Rejected(Kind.UNACCOUNTED, "no valid manifest accounts for it")
        rejected = self._judge_epoch(envelope, directory_read)  # (2)
        if rejected is not None:
            return rejected
        stream = self._tags.get(envelope.tag)  # (3)
        if stream is not None:
            newest = self._newest.get(stream)
            if newest is not None and newest.tag == envelope.tag and newest.manifest_id == message.key:
                return _Repeat(stream)
            return _Rejected(Kind.MANIFEST_COPIED, "copy of an earlier manifest")
        epoch_key = self._keys(envelope.epoch)  # (4)
        if epoch_key is None:
            return _Opaque()
        tag = manifest_tag(
            epoch_key.admit, self.topic, self.partition, envelope.epoch, envelope.manifest_id, envelope.sealed
        )
        if tag != envelope.tag:
            return _Rejected(Kind.UNACCOUNTED, "no valid manifest accounts for it")  # (5)
        try:
            opened = open_manifest(
                envelope,
                genesis=self._history.latest.genesis,
                topic=self.topic,
                partition=self.partition,
                key=epoch_key.key,
            )  # (6)
        except (OpenError, FormatError, UsageError) as error:
            return _Rejected(Kind.MANIFEST_MALFORMED, error.message, tag=tag)
        return self._judge_opened(opened, message.offset, tag, directory_read)

    def _judge_epoch(self, envelope: Envelope, directory_read: bool) -> _Rejected | None:
        latest = self._history.latest
        channel = latest.channel_at(self.partition)
        epoch = channel.epochs.get(envelope.epoch) if channel else None
        if epoch is None or epoch.confirmed_at is None:
            if not directory_read:
                raise DirectoryBehind
            cause = self._directory_fault(latest.size)
            return _Rejected(Kind.EPOCH_UNKNOWN, f"epoch {envelope.epoch} is not confirmed", cause)
        marked = self._history.at(self.mark).channel_at(self.partition)
        if marked is not None and envelope.epoch < marked.newest_confirmed - 1:
            return _Rejected(Kind.EPOCH_SUPERSEDED, f"epoch {envelope.epoch} was superseded twice")
        return None

    def _judge_opened(
        self, opened: OpenedManifest, offset: int, tag: bytes, directory_read: bool
    ) -> _Verdict:
        header, history = opened.manifest.header, self._history
        size = header.directory_size
        if size > history.latest.size and not directory_read:
            raise DirectoryBehind
        fault = self._directory_fault(size)
        if not 0 <= size <= history.latest.size:
            detail = f"directory_size {size} of '{header.issuer}' is beyond {history.latest.size}"
            return _Rejected(Kind.VIEW_UNKNOWN, detail, fault, tag)  # (7)
        if history.head_at(size) != header.directory_head:
            detail = f"'{header.issuer}' saw another directory of {size} statements"
            return _Rejected(Kind.VIEW_UNKNOWN, detail, fault, tag)
        judged_at = max(size, self.mark)
        directory = history.at(judged_at)
        try:
            verify_manifest(directory, opened)  # (8)
        except NotEntitled as error:
            return _Rejected(Kind.NOT_ENTITLED, error.message, self._directory_fault(judged_at), tag)
        except SignatureInvalid as error:
            return _Rejected(Kind.MANIFEST_SIGNATURE, error.message, None, tag)
        refused = None
        if self.topic != ACCESS_TOPIC:
            try:
                check_record_terms(directory, judge_channel(directory, self.partition), opened)  # (9)
            except NotEntitled as error:
                refused = error.message
        step = self._streams.judge(header, opened.batch_id, offset)  # (10)
        return _Accepted(opened, tag, judged_at, step, refused)

    # applying a verdict

    def _accept(self, message: StoredMessage, verdict: _Accepted) -> None:
        self._flush_run()
        opened, step, offset = verdict.opened, verdict.step, message.offset
        header = opened.manifest.header
        stream = (header.issuer, header.epoch, header.stream)
        newest = _Newest(
            verdict.tag, opened.manifest.manifest_id, opened.entries.digests, opened.manifest.count
        )
        self._remember_tag(verdict.tag, stream)
        if step.head is None and step.kind is None:
            # the newest statement of its stream, met again by a reader that resumed behind it
            self._repeat(offset, newest)
            return
        before = self._streams.head(stream)
        pending = _Pending(newest.manifest_id, offset, newest.digests, newest.count)
        if step.head is not None:
            pending.undo = (stream, before, self.mark)
            closed = self._streams.put(stream, step.head)
            if closed is not None:
                self._newest.pop(closed, None)
            self._newest[stream] = newest
            self.mark = max(self.mark, header.directory_size)
        if step.kind is not None:
            cause = step.caused_by
            if step.lost is not None:
                cause = self._cause_between(before.offset if before else -1, offset)
            pending.cause = self._violate(step.kind, offset, f"'{header.issuer}': {step.detail}", cause)
            if step.lost is not None:
                self._streams.note_gap(stream, step.lost, pending.cause)
        if verdict.refused is not None and step.deliver:
            pending.cause = self._violate(Kind.TERMS_INVALID, offset, f"'{header.issuer}': {verdict.refused}")
        pending.silent = not step.deliver or verdict.refused is not None
        if not pending.silent:
            pending.batch = VerifiedBatch(
                topic=self.topic,
                partition=self.partition,
                offset=offset,
                appended_at=message.appended_at,
                judged_at=verdict.judged_at,
                opened=opened,
                bodies=(),
            )
        self._pending = pending

    def _repeat(self, offset: int, newest: _Newest) -> None:
        self._flush_run()
        self._pending = _Pending(
            newest.manifest_id, offset, newest.digests, newest.count, void_kind=Kind.MANIFEST_COPIED
        )

    def _reject(self, message: StoredMessage, verdict: _Rejected) -> Place:
        """Report a message that nothing accounts for, in the run that it continues; returns the root."""
        place = Place(self.topic, self.partition, message.offset)
        owner = _batch_of_body(message.key)
        cause = (
            verdict.cause or (self._blamed.get(owner) if owner else None) or self._cause_by_digest(message)
        )
        if cause is None and owner and self._trouble and self._trouble[0] == message.offset:
            cause = self._trouble[1]
        run = self._run
        if run and run.kind is verdict.kind and cause in (run.cause, run.place):
            run.count += 1
        else:
            self._flush_run()
            run = self._run = _Run(verdict.kind, place, verdict.detail, cause)
            if cause is None:
                self._roots.append(place)
        root = run.cause or run.place
        if verdict.tag is not None:
            self._remember_tag(verdict.tag, _NO_STREAM)
        if message.key is not None and len(message.key) == 16:
            self._blame(message.key, root)
        self._trouble = (message.offset + 1, root)
        return root

    # remembering, in bounded memory

    def _remember_tag(self, tag: bytes, stream: StreamKey) -> None:
        self._tags[tag] = stream
        if len(self._tags) > MAX_TAGS:
            self._tags.popitem(last=False)

    def _blame(self, manifest_id: bytes, root: Place) -> None:
        self._blamed[manifest_id] = root
        if len(self._blamed) > _MAX_BLAMED:
            self._blamed.popitem(last=False)

    def _cause_by_digest(self, message: StoredMessage) -> Place | None:
        """The root of the batch that missed this very message where it belonged."""
        if not self._expected or message.value is None:
            return None
        return self._expected.get(sha256(message.value).digest())

    def _cause_between(self, after: int, before: int) -> Place | None:
        return next((root for root in self._roots if after < root.offset < before), None)

    def _violate(
        self, kind: Kind, offset: int, detail: str, cause: Place | None = None, count: int = 1
    ) -> Place:
        """Report a violation; returns its root, which is its own place where nothing caused it."""
        self._flush_run()
        place = Place(self.topic, self.partition, offset)
        if cause == place:
            cause = None
        elif cause is None:
            self._roots.append(place)
        self._events.append(Violation(kind=kind, place=place, detail=detail, count=count, caused_by=cause))
        return cause or place

    def _flush_run(self) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            self._events.append(
                Violation(
                    kind=run.kind, place=run.place, detail=run.detail, count=run.count, caused_by=run.cause
                )
            )

    def _take(self) -> Sequence[Event]:
        events, self._events = self._events, []
        return events
