"""The standing of a manifest: whether what it says was true in the view that it names, and still is.

A manifest is judged by two states of the directory. The *view* is the one that its issuer names. What is
wrong there was never right, and is a violation. The *mark* is the largest view that a valid statement before
it in the partition named. What was right at the view and is no more at the mark came too late: another
statement, made with more of the directory, was appended first. Such a batch is *stale*. It is not delivered,
and it accuses nobody, because an honest issuer cannot prevent the race.

A key that is revoked at the mark may be in a thief's hands, so nothing that it signed is excused as late.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.directory import Directory, History, KeyState
from broker.errors import NotEntitled
from broker.verify.entitlement import ACCESS_TOPIC, judge_channel, judge_issuer
from broker.verify.manifest_terms import check_record_terms
from broker.verify.violations import Kind
from broker.wire.envelope import OpenedManifest

__all__ = ["Fault", "Lapse", "find_lapse", "has_revoked_key", "issuer_fault", "terms_fault"]


class Fault(NamedTuple):
    """What is wrong with a manifest by one state of the directory."""

    kind: Kind
    detail: str


class Lapse(NamedTuple):
    """Why a batch is stale: ``fault`` is true of it since the directory had ``since`` messages."""

    since: int
    fault: Fault


def issuer_fault(directory: Directory, opened: OpenedManifest) -> Fault | None:
    """Return why this state does not entitle the issuer to publish the manifest, None where it does."""
    header = opened.manifest.header
    try:
        judge_issuer(directory, opened)
    except NotEntitled as error:
        return Fault(Kind.NOT_ENTITLED, error.message)
    # A batch may still name the epoch before the newest: it may have been on its way when the newest was
    # confirmed.
    if header.epoch < judge_channel(directory, header.partition).oldest_accepted:
        return Fault(Kind.EPOCH_SUPERSEDED, f"epoch {header.epoch} was superseded twice")
    return None


def terms_fault(directory: Directory, opened: OpenedManifest) -> Fault | None:
    """Return what the manifest may not say of its records by this state, None where nothing is wrong."""
    header = opened.manifest.header
    if header.topic == ACCESS_TOPIC:
        return None
    try:
        check_record_terms(directory, judge_channel(directory, header.partition), opened)
    except NotEntitled as error:
        return Fault(Kind.TERMS_INVALID, error.message)
    return None


def has_revoked_key(directory: Directory, opened: OpenedManifest) -> bool:
    """Tell whether the key that signed the manifest is revoked in this state; the directory lists the key."""
    return directory.parties[opened.manifest.header.issuer].keys[opened.key_id].state is KeyState.REVOKED


def find_lapse(history: History, opened: OpenedManifest, mark: int) -> Lapse | None:
    """Return since when a manifest that is right at its view is not right any more, up to the mark.

    None where it is right at the mark too. Where it lapsed more than once one of the lapses is found: the
    search halves the sizes, so that a long directory costs twenty looks.
    """
    fault = _fault(history.upto(mark), opened)
    if fault is None:
        return None
    right = opened.manifest.header.directory_size
    wrong = mark
    while wrong - right > 1:
        between = (right + wrong) // 2
        if _fault(history.upto(between), opened) is None:
            right = between
        else:
            wrong = between
    return Lapse(wrong, fault)


def _fault(directory: Directory, opened: OpenedManifest) -> Fault | None:
    return issuer_fault(directory, opened) or terms_fault(directory, opened)
