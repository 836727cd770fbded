"""The transition table of a partition's reader: in which state which arrival leads to which actions.

Rule 1: every decision about what belongs to which batch stands in this table, in ``arrival_of`` or in
``Doubt``. The reader carries the actions out and decides nothing itself, with one exception that
``Action.DOUBT`` names.

Rule 2: this file knows nothing of violations and their texts; those are in ``faults``.

Theory of operation. A reader is always in one of six states:

    Between    no manifest waits for its bodies
    Skipped    behind a manifest of an epoch whose key we do not hold
    Whole      behind an accepted manifest, bodies are to come; with the last one the batch is delivered
    Silent     the same, but the batch was reported as a violation and is not delivered
    Copy       the same behind the newest manifest of a stream once more
    Doubt      behind a manifest and a body of another batch

Something arrives: a message, a hole in the offsets, a pause, or the end of the log. ``arrival_of`` names
a message by its verdict and by the state. The table gives the actions for state and arrival. They are
carried out in order, and each one returns the next state; ``LEADS_TO`` names those that it may return.

A message behind a hole is two arrivals, the hole and then the message in the state behind the hole.

The states are values, and all of them but the progress in a ``Pending`` are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256

from broker.log.protocol import StoredMessage
from broker.verify.pending import Copy, Doubt, Pending, Silent, Whole
from broker.verify.verdict import Accepted, Opaque, Rejected, Repeat, Verdict, batch_of_body
from broker.verify.violations import Place

__all__ = [
    "BETWEEN",
    "LEADS_TO",
    "TABLE",
    "Action",
    "Arrival",
    "Between",
    "Skipped",
    "State",
    "StateName",
    "arrival_of",
    "name_of",
]


@dataclass(frozen=True, slots=True)
class Between:
    """No manifest waits for its bodies.

    ``suspected`` is set only while a message is handled that broke a batch off and is now taken by
    itself: the root of that batch.
    """

    suspected: Place | None = None


BETWEEN = Between()


@dataclass(frozen=True, slots=True)
class Skipped:
    """Behind a manifest that we cannot open, at this offset; how many bodies it has, we do not know."""

    manifest_id: bytes
    offset: int
    may_count: bool = True


State = Between | Skipped | Pending | Doubt
StateName = type[Between | Skipped | Whole | Silent | Copy | Doubt]


def name_of(state: State) -> StateName:
    """Return the row of the table for a state: a pending batch goes by its outcome."""
    return type(state.outcome) if isinstance(state, Pending) else type(state)


class Arrival(Enum):
    """What arrives, as the state sees it."""

    BODY = auto()
    """The next body of the batch; behind a skipped manifest any body of its batch."""
    OVERSIZED = auto()
    """The next body, but with it the batch has more bytes than one append can have."""
    WRONG_BODY = auto()
    """Another body of the batch, or its next body with other bytes or under another key."""
    FOREIGN_BODY = auto()
    """A body of another batch where body 0 should be."""
    STRANGER = auto()
    """Any other message that is no valid manifest."""
    REPEAT = auto()
    """The newest manifest of a stream once more."""
    MANIFEST = auto()
    """A valid manifest that was not seen before."""
    OPAQUE = auto()
    """A manifest of an epoch whose key we do not hold."""
    HOLE = auto()
    """Offsets that the log does not have, in front of the message at hand."""
    PAUSE = auto()
    """The caller has no more messages for now, and wants everything reported."""
    END = auto()
    """The log ends here for good."""


class Action(Enum):
    """What the reader does; ``LEADS_TO`` says in which state it is then."""

    TAKE_BODY = auto()
    """Count the body; with the last one deliver the batch."""
    SKIP_BODY = auto()
    """Count the body as opaque."""

    # A message by itself, with no batch pending.
    ACCEPT = auto()
    """Wait for the manifest's bodies, and report what is wrong with its terms or its stream."""
    AWAIT_COPY = auto()
    """Wait for the bodies of the manifest that came once more."""
    SKIP = auto()
    """Count the manifest as opaque."""
    REJECT = auto()
    """Report the message as one that nothing accounts for."""
    REPORT_HOLE = auto()
    """Report the missing offsets. With no batch pending the state stays the same."""

    # The end of a pending batch that is not whole.
    VOID_OVERSIZED = auto()
    """Void the batch for its size; this accounts for the message."""
    VOID_WRONG_BODY = auto()
    """Report the message as an altered or misplaced body; void the batch."""
    VOID_STRANGER = auto()
    """Report the message as one that nothing accounts for; void the batch."""
    VOID_REPEAT = auto()
    """Report the message as a copied manifest; void the batch."""
    VOID_MISSING_BODY = auto()
    """Report a missing body unless the cause is known; void the batch. The message is taken next."""
    VOID_HOLE = auto()
    """Report the missing offsets; void the batch."""
    BREAK_OFF = auto()
    """End the batch; the message is then taken by itself."""
    REPORT_UNFINISHED = auto()
    """Report that the log ends within the batch."""

    # Doubt.
    DOUBT = auto()
    """Wait for the next message to tell which one is the stranger. Where a cause is known: VOID_STRANGER."""
    SETTLE = auto()
    """Decide the doubt and report both messages. The message at hand is then taken by itself."""


_NO_BATCH: Mapping[Arrival, tuple[Action, ...]] = {
    Arrival.STRANGER: (Action.REJECT,),
    Arrival.REPEAT: (Action.AWAIT_COPY,),
    Arrival.MANIFEST: (Action.ACCEPT,),
    Arrival.OPAQUE: (Action.SKIP,),
    Arrival.HOLE: (Action.REPORT_HOLE,),
    Arrival.PAUSE: (),
    Arrival.END: (),
}

# Nothing is lost when a batch ends that would not have been delivered anyway. No missing or altered body is
# reported, and the message that ended the batch is judged as if it stood alone.
_NOT_DELIVERED: Mapping[Arrival, tuple[Action, ...]] = {
    Arrival.BODY: (Action.TAKE_BODY,),
    Arrival.OVERSIZED: (Action.VOID_OVERSIZED,),
    Arrival.WRONG_BODY: (Action.BREAK_OFF, Action.REJECT),
    Arrival.FOREIGN_BODY: (Action.BREAK_OFF, Action.REJECT),
    Arrival.STRANGER: (Action.BREAK_OFF, Action.REJECT),
    Arrival.REPEAT: (Action.BREAK_OFF, Action.AWAIT_COPY),
    Arrival.MANIFEST: (Action.BREAK_OFF, Action.ACCEPT),
    Arrival.OPAQUE: (Action.BREAK_OFF, Action.SKIP),
    Arrival.HOLE: (Action.VOID_HOLE,),
    Arrival.PAUSE: (),
}

# Between, Skipped and Doubt wait for no particular body, so no message can be a right or wrong one: they have
# no rows for the arrivals of bodies. The exception is a body behind a skipped manifest.
TABLE: Mapping[StateName, Mapping[Arrival, tuple[Action, ...]]] = {
    Between: _NO_BATCH,
    Skipped: {
        **_NO_BATCH,
        Arrival.BODY: (Action.SKIP_BODY,),
    },
    Whole: {
        Arrival.BODY: (Action.TAKE_BODY,),
        Arrival.OVERSIZED: (Action.VOID_OVERSIZED,),
        Arrival.WRONG_BODY: (Action.VOID_WRONG_BODY,),
        Arrival.FOREIGN_BODY: (Action.DOUBT,),
        Arrival.STRANGER: (Action.VOID_STRANGER,),
        # A copy within another batch is a stranger there: its bodies do not count, not even once.
        Arrival.REPEAT: (Action.VOID_REPEAT,),
        Arrival.MANIFEST: (Action.VOID_MISSING_BODY, Action.ACCEPT),
        Arrival.OPAQUE: (Action.VOID_MISSING_BODY, Action.SKIP),
        Arrival.HOLE: (Action.VOID_HOLE,),
        Arrival.PAUSE: (),
        Arrival.END: (Action.REPORT_UNFINISHED,),
    },
    Silent: {
        **_NOT_DELIVERED,
        Arrival.END: (),
    },
    Copy: {
        **_NOT_DELIVERED,
        Arrival.END: (Action.REPORT_UNFINISHED,),
    },
    Doubt: {
        arrival: (Action.SETTLE, *actions) for arrival, actions in _NO_BATCH.items()
    },
}  # fmt: skip

_BETWEEN: frozenset[StateName] = frozenset({Between})

LEADS_TO: Mapping[Action, frozenset[StateName]] = {
    Action.TAKE_BODY: frozenset({Between, Whole, Silent, Copy}),
    Action.SKIP_BODY: frozenset({Skipped}),
    Action.ACCEPT: frozenset({Whole, Silent, Copy}),
    Action.AWAIT_COPY: frozenset({Copy}),
    Action.SKIP: frozenset({Skipped}),
    Action.REJECT: _BETWEEN,
    Action.REPORT_HOLE: frozenset({Between, Skipped}),
    Action.VOID_OVERSIZED: _BETWEEN,
    Action.VOID_WRONG_BODY: _BETWEEN,
    Action.VOID_STRANGER: _BETWEEN,
    Action.VOID_REPEAT: _BETWEEN,
    Action.VOID_MISSING_BODY: _BETWEEN,
    Action.VOID_HOLE: _BETWEEN,
    Action.BREAK_OFF: _BETWEEN,
    Action.REPORT_UNFINISHED: _BETWEEN,
    Action.DOUBT: frozenset({Doubt, Between}),
    Action.SETTLE: _BETWEEN,
}


def arrival_of(state: State, message: StoredMessage, verdict: Verdict) -> Arrival:
    """Name a message of this verdict as the state sees it."""
    match verdict:
        case Rejected():
            return _arrival_of_rejected(state, message)
        case Accepted():
            return Arrival.MANIFEST
        case Repeat():
            return Arrival.REPEAT
        case Opaque():
            return Arrival.OPAQUE


def _arrival_of_rejected(state: State, message: StoredMessage) -> Arrival:
    if isinstance(state, (Between, Doubt)):
        return Arrival.STRANGER
    owner = batch_of_body(message.key)
    if isinstance(state, Skipped):
        return Arrival.BODY if owner == state.manifest_id else Arrival.STRANGER
    value = message.value or b""
    is_next_key = message.key == state.next_key
    is_next_value = sha256(value).digest() == state.next_digest
    if is_next_key and is_next_value and message.value is not None:
        return Arrival.BODY if len(value) <= state.room else Arrival.OVERSIZED
    if is_next_value or owner == state.manifest_id:
        return Arrival.WRONG_BODY
    if owner is not None and state.seen == 0:
        return Arrival.FOREIGN_BODY
    return Arrival.STRANGER
