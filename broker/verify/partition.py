"""Reading a partition that others write: every message is accounted for.

Rules. The reader takes the messages of one partition in order and returns events: a VerifiedBatch when
the last body of a valid manifest has come, Stale where that batch came too late, a Violation for whatever
must not be there. It never raises on data, never waits, and holds a bounded state. On the log a batch of n
records is n + 1 messages:

    manifest | body 0 | body 1 | … | body n-1

The n messages behind a valid manifest are its bodies. The first message that is not (its digest, key or
kind differs) voids the batch, and reading goes on at that message. A message that no valid manifest
accounts for is a violation; several of them in a row are one violation with a count.

Theory of operation. A message goes through three hands:

    judge        is it a valid manifest by itself? (cryptography, directory, stream)
    transitions  what is it to the batch that we are in the middle of? (the table of states)
    faults       which violations does that make, and which of them is the root? (texts, and ``blame``)

One manipulation makes one root violation. It is reported first, at the message that was manipulated, and
whatever follows from it names it in ``caused_by``. Where a batch breaks off, the root is:

    the message that is not the next body                            the root is at
    a body of the same batch, altered or out of place                that message
    the right body under another key                                 that message
    anything that is no valid manifest                               that message
    a copy of a manifest                                             that message
    a valid manifest                                                 that message: a body is missing there
    a valid manifest that was appended earlier                       the manifest before it, a stranger
    right behind the manifest: a body of another batch               in doubt, see ``Doubt``
    behind a manifest with a violation of its own                    that violation

In doubt either the manifest is a stranger before these bodies, or the body behind this manifest is one.
The next message tells.

Ownership. ``_state`` is written by ``_run``, and by ``_delivered`` when a batch is whole. ``next_offset``
and the tree are written by ``_grow`` and ``feed_bodies``. The progress of a pending batch is written by
``Pending.take`` and ``take_rest`` alone. The mark, the fingerprints and the streams belong to the judge;
violations on their way out, and what is remembered of causes, belong to ``Blame``. Nothing here reaches into
either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from broker.crypto.log_tree import LogTree
from broker.directory import EpochKey, History
from broker.log.protocol import StoredMessage
from broker.verify import faults
from broker.verify.blame import Blame
from broker.verify.events import Event, ReaderState, Stale, VerifiedBatch
from broker.verify.judge import Judge, Undo
from broker.verify.pending import Copy, Doubt, Outcome, Pending, Silent, Whole
from broker.verify.transitions import (
    BETWEEN,
    TABLE,
    Action,
    Arrival,
    Between,
    Skipped,
    State,
    arrival_of,
    name_of,
)
from broker.verify.verdict import Accepted, DirectoryBehind, NewestManifest, Opaque, Rejected, Repeat, Verdict
from broker.verify.violations import Place
from broker.wire.log_leaf import HOLE, message_leaf, message_leaves

__all__ = ["DirectoryBehind", "Event", "PartitionReader", "ReaderState", "Stale", "VerifiedBatch"]


class PartitionReader:
    """Reads one partition, from its first message or from a ReaderState.

    ``keys(epoch)`` returns the metadata key (topics of records) or the access key (topic ``access``) of an
    epoch of the partition's channel, or None where the reader was no recipient of it.
    ``directory_fault(size)`` returns the place from which on the directory below that size differs from
    what others saw.
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
        tree: LogTree | None = None,
        directory_fault: Callable[[int], Place | None] | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.opaque = 0
        """Messages of epochs whose keys we do not hold."""
        self.repeats = 0
        """How often the newest batch of a stream stood there once more, which counts once."""
        self.repeated_at = -1
        """The offset of the last such repeat."""
        self.unjudged = 0
        """Those of them of which other readers may have made a batch."""
        self.next_offset = 0
        self.tree = tree
        """The tree of the partition up to ``next_offset``, where the caller wants its roots."""
        self._keep_bodies = keep_bodies
        self._state: State = BETWEEN
        self._blame = Blame(topic, partition)
        self._judge = Judge(
            topic=topic, partition=partition, history=history, keys=keys, directory_fault=directory_fault
        )
        if state is not None:
            self.next_offset = state.next_offset
            self._judge.resume(state)

    # reading

    def feed(self, message: StoredMessage, *, directory_read: bool = False) -> Sequence[Event]:
        """Take the next message; offsets must rise. Returns the events that it completes, in order.

        Raises DirectoryBehind, and nothing has changed, where the directory must be read on first: the
        caller reads it to its end and feeds the same message again with ``directory_read=True``.
        """
        # Action.TAKE_BODY is carried out here, without the table: nearly every message is the next body.
        offset, key, value, _ = message
        digest = None if value is None else sha256(value).digest()
        state = self._state
        if isinstance(state, Pending) and offset == self.next_offset and state.take(key, value, digest):
            self._grow(message, digest)
            return self._delivered(state) if state.seen == state.count else ()
        verdict = self._judge.judge(message, directory_read)  # may raise; nothing may change before it
        if offset != self.next_offset:
            self._run(Arrival.HOLE, message, verdict)
        self._run(arrival_of(self._state, message, verdict), message, verdict)
        self._grow(message, digest)
        return self._blame.take()

    def feed_bodies(self, messages: Sequence[StoredMessage]) -> Sequence[Event] | None:
        """Take all bodies that are awaited at once; None, and nothing changes, if these are not they.

        The result is the same as that of feeding them one by one, at a third of the cost.
        """
        state = self._state
        if not isinstance(state, Pending) or len(messages) != state.count - state.seen:
            return None
        end = self.next_offset + len(messages)
        if messages[0].offset != self.next_offset or messages[-1].offset != end - 1:
            return None
        digests = state.missing_digests
        if not state.take_rest(messages):
            return None
        if self.tree is not None:
            _, keys, _, times = zip(*messages, strict=True)
            self.tree.extend(message_leaves(times, keys, digests))
        self.next_offset = end
        return self._delivered(state)

    def _grow(self, message: StoredMessage, digest: bytes | None) -> None:
        """Move on behind a message that was taken; the tree grows by it, and by a hole before it."""
        if self.tree is not None:
            if message.offset > self.next_offset:
                self.tree.skip(HOLE, message.offset - self.next_offset)
            self.tree.add(message_leaf(message.appended_at, message.key, digest))
        self.next_offset = message.offset + 1

    def flush(self, *, at_end: bool = False) -> Sequence[Event]:
        """Return what is not reported yet; ``at_end`` says that the log ends here for good."""
        for action in TABLE[name_of(self._state)][Arrival.END if at_end else Arrival.PAUSE]:
            self._state = self._conclude(action)
        self._blame.flush()
        return self._blame.take()

    # position

    @property
    def state(self) -> State:
        """What the reader is in the middle of, as ``transitions`` describes it."""
        return self._state

    @property
    def awaited(self) -> int:
        """How many bodies of the newest manifest are still to come."""
        state = self._state
        return state.count - state.seen if isinstance(state, Pending) else 0

    @property
    def mark(self) -> int:
        """The largest directory size of the valid statements so far."""
        return self._judge.mark

    @property
    def settled_offset(self) -> int:
        """The offset before which every batch was whole and everything was reported."""
        match self._state:
            case Doubt(pending=pending):
                return pending.offset
            case Pending(offset=offset):
                return offset
            case Skipped(offset=offset):
                # We cannot tell where the skipped batch ends, so its bodies need their manifest again.
                return offset
            case Between():
                unreported = self._blame.unreported
                return self.next_offset if unreported is None else unreported

    def snapshot(self) -> ReaderState:
        """Return the state to resume from; an unfinished batch is read again from its manifest."""
        state = self._state
        pending = state.pending if isinstance(state, Doubt) else state
        undo = pending.undo if isinstance(pending, Pending) else None
        stored = self._judge.snapshot(self.settled_offset, undo)
        if self.tree is None:
            return stored
        return replace(stored, frontier=self.tree.frontier_at(stored.next_offset))

    # carrying out the table

    def _run(self, arrival: Arrival, message: StoredMessage, verdict: Verdict) -> None:
        """Carry out what the table says of a message, or of the hole in front of it."""
        for action in TABLE[name_of(self._state)][arrival]:
            match self._state:
                case Between() | Skipped() as state:
                    self._state = self._take(action, state, message, verdict)
                case Pending() as pending:
                    self._state = self._end(action, pending, message, verdict)
                case Doubt() as doubt:
                    faults.settle(self._blame, doubt, message)
                    self._state = BETWEEN

    def _conclude(self, action: Action) -> State:
        """Carry out an action while nothing more is read; returns the next state."""
        match action, self._state:
            case Action.SETTLE, Doubt() as doubt:
                faults.settle(self._blame, doubt, None)
            case Action.REPORT_UNFINISHED, Pending() as pending:
                faults.report_unfinished(self._blame, pending, self.next_offset)
            case _, state:
                raise _wrong_row(action, state)
        return BETWEEN

    def _end(self, action: Action, pending: Pending, message: StoredMessage, verdict: Verdict) -> State:
        """End the pending batch at this message, which is not its next body; returns the next state."""
        blame = self._blame
        match action, verdict:
            case Action.VOID_MISSING_BODY, _:
                return Between(suspected=faults.void_for_missing_body(blame, pending, message))
            case Action.BREAK_OFF, _:
                faults.break_off(blame, pending, message)
            case Action.DOUBT, Rejected() if faults.cause_of_break(blame, pending, message) is None:
                return Doubt(pending, message)
            case ((Action.VOID_STRANGER | Action.DOUBT), Rejected()):
                self._judge.remember_rejected(verdict)
                faults.void_by_stranger(blame, pending, message, verdict)
            case Action.VOID_WRONG_BODY, _:
                faults.void_by_wrong_body(blame, pending, message)
            case Action.VOID_OVERSIZED, _:
                faults.void_by_size(blame, pending, message)
            case Action.VOID_REPEAT, _:
                faults.void_by_repeat(blame, pending, message)
            case Action.VOID_HOLE, _:
                faults.void_by_hole(blame, pending, self.next_offset, message.offset - self.next_offset)
            case _:
                raise _wrong_row(action, pending)
        return BETWEEN

    def _take(
        self, action: Action, state: Between | Skipped, message: StoredMessage, verdict: Verdict
    ) -> State:
        """Take a message by itself, while no manifest waits for its bodies; returns the next state."""
        match action, verdict:
            case Action.ACCEPT, Accepted():
                suspected = state.suspected if isinstance(state, Between) else None
                return self._accept(message, verdict, suspected)
            case Action.REJECT, Rejected():
                self._judge.remember_rejected(verdict)
                self._blame.reject(message, verdict)
                return BETWEEN
            case Action.SKIP_BODY, _:
                self._skip(isinstance(state, Skipped) and state.may_count)
                return state
            case Action.SKIP, Opaque():
                self._blame.flush()
                self._skip(verdict.may_count)
                return Skipped(message.key or b"", message.offset, verdict.may_count)
            case Action.AWAIT_COPY, Repeat():
                self._blame.flush()
                return self._pending(message, verdict.newest, Copy())
            case Action.REPORT_HOLE, _:
                faults.report_hole(self._blame, self.next_offset, message.offset - self.next_offset)
                return state
        raise _wrong_row(action, state)

    def _skip(self, may_count: bool) -> None:
        self.opaque += 1
        self.unjudged += may_count

    def _accept(self, message: StoredMessage, accepted: Accepted, suspected: Place | None) -> State:
        # The run of rejected messages before this one is reported first: events come in the log's order.
        self._blame.flush()
        undo = self._judge.accept(accepted)
        if accepted.is_repeat:
            return self._pending(message, accepted.newest, Copy())
        step = accepted.step
        cause = faults.report_manifest(self._blame, message.offset, accepted, undo)
        if step.lost is not None and cause is not None:
            self._judge.note_gap(accepted.stream, step.lost, cause)
        outcome: Outcome
        if step.deliver and accepted.refused is None:
            outcome = Whole(accepted, cause, suspected)
        else:
            # There always is a cause here; without one the batch must not be delivered all the same.
            outcome = Silent(cause or self._blame.place(message.offset))
        return self._pending(message, accepted.newest, outcome, undo)

    def _pending(
        self, message: StoredMessage, newest: NewestManifest, outcome: Outcome, undo: Undo | None = None
    ) -> Pending:
        return Pending.behind(message, newest, outcome, undo=undo, keep_bodies=self._keep_bodies)

    def _delivered(self, pending: Pending) -> Sequence[Event]:
        """Leave a batch whose last body has come; returns it if it is to be delivered, or is stale."""
        self._state = BETWEEN
        outcome = pending.outcome
        if isinstance(outcome, Copy):
            self.repeats += 1
            self.repeated_at = pending.offset
        if not isinstance(outcome, Whole):
            return ()
        if outcome.accepted.lapse is not None:
            stale = Stale(
                topic=self.topic,
                partition=self.partition,
                offset=pending.offset,
                judged_at=outcome.accepted.judged_at,
                opened=outcome.accepted.opened,
                lapse=outcome.accepted.lapse,
            )
            return (stale,)
        batch = VerifiedBatch(
            topic=self.topic,
            partition=self.partition,
            offset=pending.offset,
            appended_at=pending.appended_at,
            judged_at=outcome.accepted.judged_at,
            opened=outcome.accepted.opened,
            bodies=tuple(pending.bodies or ()),
        )
        return (batch,)


def _wrong_row(action: Action, state: State) -> RuntimeError:
    """Return the error of a row that the table must not have; the tests walk all rows."""
    return RuntimeError(f"no action {action} in state {name_of(state).__name__}")
