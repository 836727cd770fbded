"""Reading a partition that others write: every message is accounted for.

Theory of operation. ``feed`` takes the messages of one partition in order and returns events:
a VerifiedBatch when the last body of a valid manifest has come, a Violation for whatever must not
be there. It never raises on data, never waits, and holds a bounded state:

    manifest | body 0 | body 1 | … | body n-1

The n messages behind a valid manifest (see ``judge``) are its bodies. The first that is not
(digest, key or kind differs) voids the batch, and reading resumes at that message. A message that
no valid manifest accounts for is a violation; consecutive ones are one violation with a count.

The mark is the largest directory size of the valid statements so far. What the directory says of a
manifest may not have been read yet: then ``feed`` raises DirectoryBehind, having changed nothing
that matters; the caller reads the directory to its end and feeds the message again with
``directory_read=True``.

One manipulation makes one root violation, reported first, at the message that was manipulated; what
follows from it names the root in ``caused_by`` (see ``blame``):

    the message that is not the next body                            the root is at
    a body of the same batch, altered or out of place                that message
    the right body under another key                                 that message
    anything that is no valid manifest                               that message
    a copy of a manifest                                             that message
    a valid manifest                                                 that message: a body is missing there
    a valid manifest that was appended earlier                       the manifest before it, a stranger
    right behind the manifest: a body of another batch               in doubt, see below
    behind a manifest with a violation of its own                    that violation

In doubt either the manifest is a stranger before these bodies, or the body behind this manifest.
The next message tells, see ``awaited``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from broker.directory import EpochKey, History
from broker.log.protocol import StoredMessage
from broker.verify.blame import Blame
from broker.verify.events import Event, ReaderState, VerifiedBatch
from broker.verify.judge import (
    Accepted,
    DirectoryBehind,
    Judge,
    Newest,
    Opaque,
    Rejected,
    Repeat,
    Verdict,
    batch_of_body,
)
from broker.verify.pending import U32, Awaited, Doubt
from broker.verify.streams import Head, StreamKey
from broker.verify.violations import Kind, Place
from broker.wire.limits import MAX_BATCH_BYTES

__all__ = ["DirectoryBehind", "Event", "PartitionReader", "ReaderState", "VerifiedBatch"]


class PartitionReader:
    """The state of reading one partition, from its first message or from a ReaderState.

    ``keys(epoch)`` gives the metadata key (record topics) or access key (``access``) of an epoch of
    the partition's channel, or None where the reader was no recipient of it. ``directory_fault(size)``
    gives the place from which on the directory below that size differs from what others saw.
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
        self._judge = Judge(topic, partition, history, keys, directory_fault, state.mark if state else 0)
        self._blame = Blame(topic, partition)
        self._keep_bodies = keep_bodies
        self._pending: Awaited | None = None
        self._doubt: Doubt | None = None
        self._opaque_at: int | None = None
        self._suspected: Place | None = None
        for key, sequence, digest, offset in state.heads if state else ():
            self._judge.streams.put(key, Head(sequence, digest, offset))
        for key in state.closed if state else ():
            self._judge.streams.close(key)

    # reading

    def feed(self, message: StoredMessage, *, directory_read: bool = False) -> Sequence[Event]:
        """Take the next message; offsets must rise. Returns what it completes or breaks, in order."""
        offset, key, value, _ = message
        pending = self._pending
        if pending is not None and offset == self.next_offset and value is not None:
            i = pending.seen
            if (
                key == pending.manifest_id + U32[i]
                and len(value) <= pending.room
                and sha256(value).digest() == pending.digests[i * 32 : i * 32 + 32]
            ):
                self.next_offset = offset + 1
                pending.seen = i + 1
                pending.room -= len(value)
                if self._keep_bodies:
                    pending.bodies.append(value)
                return self._complete(pending) if pending.seen == pending.count else ()
        return self._feed_other(message, directory_read)

    @property
    def awaited(self) -> int:
        """How many bodies of the newest manifest are still to come."""
        return self._pending.count - self._pending.seen if self._pending else 0

    def feed_bodies(self, messages: Sequence[StoredMessage]) -> Sequence[Event] | None:
        """Take all bodies that are awaited at once; None, and nothing changed, if these are not they.

        The same as feeding them one by one, for replay at a third of the cost.
        """
        pending = self._pending
        if pending is None or len(messages) != pending.count - pending.seen:
            return None
        last = self.next_offset + len(messages)
        if messages[0].offset != self.next_offset or messages[-1].offset != last - 1:
            return None
        _, keys, values, _ = zip(*messages, strict=True)
        wanted = tuple(map(pending.manifest_id.__add__, U32[pending.seen : pending.count]))
        if None in values or keys != wanted or sum(map(len, values)) > pending.room:
            return None
        if b"".join([sha256(value).digest() for value in values]) != pending.digests[pending.seen * 32 :]:
            return None
        self.next_offset, pending.seen = last, pending.count
        if self._keep_bodies:
            pending.bodies.extend(values)
        return self._complete(pending)

    def flush(self, *, at_end: bool = False) -> Sequence[Event]:
        """What is not yet reported; ``at_end`` says that nothing follows any more."""
        self._settle_doubt(None)
        self._blame.flush()
        pending = self._pending
        if at_end and pending is not None and not pending.silent:
            self._pending = None
            cause = pending.cause or self._blame.root_of(pending.manifest_id) or pending.suspected
            detail = f"{pending.seen} of {pending.count} bodies of the batch at offset {pending.offset}"
            if pending.is_copy:
                self._blame.report(Kind.MANIFEST_COPIED, pending.offset, f"{detail} follow", cause)
            else:
                detail = f"the log ends behind {detail}"
                self._blame.report(Kind.BATCH_UNFINISHED, self.next_offset, detail, cause)
        return self._blame.take()

    @property
    def mark(self) -> int:
        """The largest directory size of the valid statements so far."""
        return self._judge.mark

    @property
    def settled_offset(self) -> int:
        """The offset up to which every batch was whole and everything was reported.

        That of the awaited manifest, of the first message of what is not yet reported, or the next.
        """
        if self._doubt is not None:
            return self._doubt.awaited.offset
        if self._pending is not None:
            return self._pending.offset
        if self._blame.unreported is not None:
            return self._blame.unreported
        return self.next_offset if self._opaque_at is None else self._opaque_at

    def snapshot(self) -> ReaderState:
        """The state to resume from; an unfinished batch is read again from its manifest."""
        streams = self._judge.streams
        heads = {key: (head.sequence, head.digest, head.offset) for key, head in streams.items()}
        mark = self.mark
        pending = self._doubt.awaited if self._doubt else self._pending
        if pending is not None and pending.undo is not None:
            key, before, mark = pending.undo
            heads.pop(key, None)
            if before is not None:
                heads[key] = (before.sequence, before.digest, before.offset)
        return ReaderState(
            next_offset=self.settled_offset,
            mark=mark,
            heads=tuple((key, *head) for key, head in heads.items()),
            closed=streams.closed(),
        )

    # what arrives

    def _feed_other(self, message: StoredMessage, directory_read: bool) -> Sequence[Event]:
        self._settle_doubt(message)
        verdict = self._judge.judge(message, directory_read)
        if message.offset != self.next_offset:
            self._missing(message.offset)
        accounted = self._pending is not None and self._void(self._pending, message, verdict)
        self.next_offset = message.offset + 1
        if not accounted:
            self._apply(message, verdict)
        return self._blame.take()

    def _apply(self, message: StoredMessage, verdict: Verdict) -> None:
        suspected, self._suspected = self._suspected, None
        opaque_at, self._opaque_at = self._opaque_at, None
        opaque_id, self._judge.opaque_id = self._judge.opaque_id, None
        match verdict:
            case Accepted():
                self._accept(message, verdict, suspected)
            case Rejected():
                self._judge.remember_rejected(verdict)
                self._blame.reject(message, verdict)
            case Repeat():
                self._repeat(message, verdict.newest)
            case Opaque():
                self._blame.flush()
                self.opaque += 1
                is_body = opaque_at is not None and batch_of_body(message.key) == opaque_id
                self._opaque_at = opaque_at if is_body else message.offset
                self._judge.opaque_id = (message.key or b"")[:16]

    def _complete(self, pending: Awaited) -> Sequence[Event]:
        self._pending = None
        if pending.batch is None:
            return ()
        return (replace(pending.batch, bodies=tuple(pending.bodies)),)

    def _missing(self, offset: int) -> None:
        first, count = self.next_offset, offset - self.next_offset
        detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
        root = self._blame.report(Kind.OFFSET_MISSING, first, detail, None, count)
        self._blame.trouble(offset - 1, root)
        if self._pending is not None:
            self._end_batch(self._pending, root, f"message {first} is missing")

    # ending a batch that is not whole

    def _void(self, pending: Awaited, message: StoredMessage, verdict: Verdict) -> bool:
        """End the awaited batch, since this message is not its next body; True if that accounts for it."""
        wanted = f"body {pending.seen} of the batch at offset {pending.offset}"
        detail = f"message {message.offset} is not {wanted}"
        cause = pending.cause or self._blame.root_of(pending.manifest_id) or self._blame.cause_of(message)
        if cause is None and pending.seen == 0:
            cause = pending.suspected
        if self._is_too_large(pending, message):
            detail = f"with {wanted} it has more than {MAX_BATCH_BYTES:,} bytes"
            self._blame.trouble(message.offset, self._end_batch(pending, cause, detail))
            return True
        if pending.silent or pending.is_copy:
            self._end_batch(pending, cause, detail)
            return False
        if isinstance(verdict, Rejected):
            return self._void_by_stranger(pending, message, verdict, cause, wanted)
        if isinstance(verdict, Repeat):
            why = "copy of an earlier manifest"
            root = self._blame.report(Kind.MANIFEST_COPIED, message.offset, why, cause)
            self._end_batch(pending, root, detail)
            self._blame.trouble(message.offset, root)
            return True
        if cause is None and pending.appended_at <= message.appended_at:
            cause = self._blame.report(Kind.BODY_MISSING, message.offset, f"{wanted} is missing here")
        self._suspected = self._end_batch(pending, cause, detail)
        return False

    @staticmethod
    def _is_too_large(pending: Awaited, message: StoredMessage) -> bool:
        """Whether this is the next body, and only too much of it."""
        value, i = message.value or b"", pending.seen
        return (
            len(value) > pending.room
            and message.key == pending.manifest_id + U32[i]
            and sha256(value).digest() == pending.digests[i * 32 : i * 32 + 32]
        )

    def _void_by_stranger(
        self, pending: Awaited, message: StoredMessage, verdict: Rejected, cause: Place | None, wanted: str
    ) -> bool:
        detail = f"message {message.offset} is not {wanted}"
        owner, i = batch_of_body(message.key), pending.seen
        kind: Kind | None = None
        why = ""
        if owner == pending.manifest_id:
            altered = message.key == owner + U32[i]
            kind = Kind.BODY_ALTERED if altered else Kind.BODY_MISPLACED
            why = f"{wanted} was altered" if altered else f"another body stands where {wanted} belongs"
        elif sha256(message.value or b"").digest() == pending.digests[i * 32 : i * 32 + 32]:
            kind, why = Kind.BODY_ALTERED, f"{wanted} stands under another key"
        if kind is not None:
            root = self._blame.report(kind, message.offset, why, cause)
            self._end_batch(pending, root, detail)
            self._blame.trouble(message.offset, root)
            return True
        if owner is not None and i == 0 and cause is None:
            self._pending, self._doubt = None, Doubt(pending, message)
            return True
        self._judge.remember_rejected(verdict)
        root = self._blame.reject(message, replace(verdict, cause=verdict.cause or cause))
        self._end_batch(pending, root, detail)
        return True

    def _settle_doubt(self, then: StoredMessage | None) -> None:
        """Say which is the stranger, the manifest or the body behind it; ``then`` is the next message."""
        if self._doubt is None:
            return
        doubt, self._doubt = self._doubt, None
        pending, body = doubt.awaited, doubt.message
        owner, detail = batch_of_body(body.key), f"message {body.offset} is not its body 0"
        body_is_stranger = doubt.is_body_stranger(then)
        rejected = Rejected(Kind.UNACCOUNTED, f"no body of the batch at offset {pending.offset}")
        if body_is_stranger:
            self._end_batch(pending, self._blame.reject(body, rejected), detail)
            return
        root = self._end_batch(pending, None, detail)
        if owner is not None:
            self._blame.blame(owner, root)
        self._blame.reject(body, replace(rejected, cause=root))

    def _end_batch(self, pending: Awaited, root: Place | None, detail: str) -> Place:
        """Void the awaited batch and remember what would have belonged to it; returns the root."""
        self._pending = None
        if pending.silent:
            root = root or self._blame.place(pending.offset)
        else:
            kind = Kind.MANIFEST_COPIED if pending.is_copy else Kind.BATCH_VOID
            root = self._blame.report(kind, pending.offset, detail, root)
        self._blame.blame(pending.manifest_id, root)
        self._blame.expect(pending.digests[pending.seen * 32 :], root)
        return root

    # accepting a manifest

    def _accept(self, message: StoredMessage, verdict: Accepted, suspected: Place | None) -> None:
        self._blame.flush()
        opened, step = verdict.opened, verdict.step
        manifest = opened.manifest
        header = manifest.header
        stream = (header.issuer, header.epoch, header.stream)
        newest = Newest(verdict.tag, manifest.manifest_id, opened.entries.digests, manifest.count)
        self._judge.remember_tag(verdict.tag)
        if step.head is None and step.kind is None:
            # the newest statement of its stream, met again by a reader that resumed behind it
            self._repeat(message, newest)
            return
        before = self._judge.streams.head(stream)
        pending = self._awaiting(message, newest)
        pending.suspected = suspected
        if step.head is not None:
            pending.undo = (stream, before, self.mark)
            self._judge.advance(stream, newest, verdict)
        self._report_step(pending, verdict, before, stream)
        pending.silent = not step.deliver or verdict.refused is not None
        if not pending.silent:
            pending.batch = VerifiedBatch(
                topic=self.topic,
                partition=self.partition,
                offset=message.offset,
                appended_at=message.appended_at,
                judged_at=verdict.judged_at,
                opened=opened,
                bodies=(),
            )
        self._pending = pending

    def _report_step(
        self, pending: Awaited, verdict: Accepted, before: Head | None, stream: StreamKey
    ) -> None:
        step, issuer, offset = verdict.step, stream[0], pending.offset
        if step.kind is not None:
            cause = step.caused_by
            if step.lost is not None:
                cause = self._blame.cause_between(before.offset if before else -1, offset)
            pending.cause = self._blame.report(step.kind, offset, f"'{issuer}': {step.detail}", cause)
            if step.lost is not None:
                self._judge.streams.note_gap(stream, step.lost, pending.cause)
        if verdict.refused is not None and step.deliver:
            detail = f"'{issuer}': {verdict.refused}"
            pending.cause = self._blame.report(Kind.TERMS_INVALID, offset, detail, pending.cause)

    def _repeat(self, message: StoredMessage, newest: Newest) -> None:
        self._blame.flush()
        self._pending = self._awaiting(message, newest)
        self._pending.is_copy = True

    @staticmethod
    def _awaiting(message: StoredMessage, newest: Newest) -> Awaited:
        room = MAX_BATCH_BYTES - len(message.value or b"")
        return Awaited(
            newest.manifest_id, message.offset, message.appended_at, newest.digests, newest.count, room
        )
