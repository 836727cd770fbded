"""Faults of a batch: what is reported when it does not become whole, and under which root.

Each function reports to ``blame`` and remembers there what would have belonged to the batch, so that its
bodies, wherever they turn up later, follow from the same root. The reader owns the state; nothing here
changes a ``Pending``.
"""

from __future__ import annotations

from dataclasses import replace

from broker.log.protocol import StoredMessage
from broker.verify.blame import Blame
from broker.verify.judge import Undo
from broker.verify.pending import Copy, Doubt, Pending, Silent
from broker.verify.verdict import Accepted, Rejected, batch_of_body
from broker.verify.violations import Kind, Place
from broker.wire.limits import MAX_BATCH_BYTES

__all__ = [
    "break_off",
    "cause_of_break",
    "report_hole",
    "report_manifest",
    "report_unfinished",
    "settle",
    "void_by_hole",
    "void_by_repeat",
    "void_by_size",
    "void_by_stranger",
    "void_by_wrong_body",
    "void_for_missing_body",
]


def report_manifest(blame: Blame, offset: int, accepted: Accepted, undo: Undo | None) -> Place | None:
    """Report what is wrong with an accepted manifest; returns the root, or None where nothing is wrong."""
    step = accepted.step
    if step.kind is None and accepted.refused is None:
        return None
    issuer = accepted.stream[0]
    root = None
    if step.kind is not None:
        cause = step.caused_by
        if step.lost is not None:
            # What was lost was lost between the two statements around it: look for its root there.
            before = undo.head if undo is not None else None
            cause = blame.cause_between(before.offset if before is not None else -1, offset)
        root = blame.report(step.kind, offset, f"'{issuer}': {step.detail}", cause)
    if accepted.refused is not None and step.deliver:
        root = blame.report(Kind.TERMS_INVALID, offset, f"'{issuer}': {accepted.refused}", root)
    return root


def report_hole(blame: Blame, first: int, count: int) -> Place:
    """Report ``count`` offsets from ``first`` on that the log does not have; returns the root."""
    detail = f"{count} message{'s' if count > 1 else ''} missing from the log"
    root = blame.report(Kind.OFFSET_MISSING, first, detail, None, count)
    blame.trouble(first + count - 1, root)
    return root


def cause_of_break(blame: Blame, pending: Pending, message: StoredMessage) -> Place | None:
    """Return the root of what ends the batch at this message, if it is known already."""
    cause = pending.cause or blame.root_of(pending.manifest_id) or blame.cause_of(message)
    if cause is None and pending.seen == 0:
        return pending.suspected
    return cause


# the end of a pending batch, one function for each action


def void_by_size(blame: Blame, pending: Pending, message: StoredMessage) -> None:
    """Void the batch because with its next body it has too many bytes."""
    cause = cause_of_break(blame, pending, message)
    detail = f"with {_wanted(pending)} it has more than {MAX_BATCH_BYTES:,} bytes"
    blame.trouble(message.offset, _end(blame, pending, cause, detail))


def void_by_wrong_body(blame: Blame, pending: Pending, message: StoredMessage) -> None:
    """Report the message as an altered or misplaced body, and void the batch."""
    cause = cause_of_break(blame, pending, message)
    wanted = _wanted(pending)
    if message.key == pending.next_key:
        kind = Kind.BODY_ALTERED
        why = f"{wanted} was altered"
    elif batch_of_body(message.key) == pending.manifest_id:
        kind = Kind.BODY_MISPLACED
        why = f"another body stands where {wanted} belongs"
    else:
        kind = Kind.BODY_ALTERED
        why = f"{wanted} stands under another key"
    root = blame.report(kind, message.offset, why, cause)
    _end(blame, pending, root, _is_not_wanted(pending, message))
    blame.trouble(message.offset, root)


def void_by_stranger(blame: Blame, pending: Pending, message: StoredMessage, rejected: Rejected) -> None:
    """Report the message as one that nothing accounts for, and void the batch."""
    cause = rejected.cause or cause_of_break(blame, pending, message)
    root = blame.reject(message, replace(rejected, cause=cause))
    _end(blame, pending, root, _is_not_wanted(pending, message))


def void_by_repeat(blame: Blame, pending: Pending, message: StoredMessage) -> None:
    """Report the message as a copied manifest, and void the batch."""
    cause = cause_of_break(blame, pending, message)
    root = blame.report(Kind.MANIFEST_COPIED, message.offset, "copy of an earlier manifest", cause)
    _end(blame, pending, root, _is_not_wanted(pending, message))
    blame.trouble(message.offset, root)


def void_for_missing_body(blame: Blame, pending: Pending, message: StoredMessage) -> Place:
    """Void the batch because a manifest stands where its next body belongs; returns the root."""
    cause = cause_of_break(blame, pending, message)
    # In an honest log append times never fall. A manifest older than the one before it was moved here, or
    # the one before it was: then the body is not what is missing, and the batch is the root itself.
    if cause is None and pending.appended_at <= message.appended_at:
        cause = blame.report(Kind.BODY_MISSING, message.offset, f"{_wanted(pending)} is missing here")
    return _end(blame, pending, cause, _is_not_wanted(pending, message))


def void_by_hole(blame: Blame, pending: Pending, first: int, count: int) -> None:
    """Report the missing offsets, and void the batch."""
    root = report_hole(blame, first, count)
    _end(blame, pending, root, f"message {first} is missing")


def break_off(blame: Blame, pending: Pending, message: StoredMessage) -> None:
    """End a batch that would not have been delivered."""
    _end(blame, pending, cause_of_break(blame, pending, message), _is_not_wanted(pending, message))


def report_unfinished(blame: Blame, pending: Pending, end: int) -> None:
    """Report that the log ends within the batch."""
    cause = pending.cause or blame.root_of(pending.manifest_id) or pending.suspected
    detail = f"{pending.seen} of {pending.count} bodies of the batch at offset {pending.offset}"
    if isinstance(pending.outcome, Copy):
        blame.report(Kind.MANIFEST_COPIED, pending.offset, f"{detail} follow", cause)
    else:
        blame.report(Kind.BATCH_UNFINISHED, end, f"the log ends behind {detail}", cause)


def settle(blame: Blame, doubt: Doubt, then: StoredMessage | None) -> None:
    """Report both messages of a doubt, the stranger first; ``then`` is the message behind them."""
    pending = doubt.pending
    body = doubt.message
    detail = f"message {body.offset} is not its body 0"
    rejected = Rejected(Kind.UNACCOUNTED, f"no body of the batch at offset {pending.offset}")
    if doubt.is_body_stranger(then):
        _end(blame, pending, blame.reject(body, rejected), detail)
        return
    root = _end(blame, pending, None, detail)
    owner = batch_of_body(body.key)
    if owner is not None:
        blame.blame(owner, root)
    blame.reject(body, replace(rejected, cause=root))


def _end(blame: Blame, pending: Pending, root: Place | None, detail: str) -> Place:
    """Report the batch as void unless it was reported before; returns the root."""
    match pending.outcome:
        case Silent(cause=cause):
            root = root or cause
        case Copy():
            root = blame.report(Kind.MANIFEST_COPIED, pending.offset, detail, root)
        case _:
            root = blame.report(Kind.BATCH_VOID, pending.offset, detail, root)
    blame.blame(pending.manifest_id, root)
    blame.expect(pending.missing_digests, root)
    return root


def _wanted(pending: Pending) -> str:
    return f"body {pending.seen} of the batch at offset {pending.offset}"


def _is_not_wanted(pending: Pending, message: StoredMessage) -> str:
    return f"message {message.offset} is not {_wanted(pending)}"
