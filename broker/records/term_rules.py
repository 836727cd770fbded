"""The rules for the terms of every record: purpose, retention, action and handling.

The terms are what the manifest says of a record without opening its body. Three places check them, each at
its own moment and in its own words. The rules themselves stand here, once:

======  ==============================  =========================================================
place   module                          what a broken rule means there
======  ==============================  =========================================================
input   `broker.records.json_terms`     a clerk's row is rejected; a subscriber reports a record
send    `broker.publish.permission`     the publisher refuses the record before it builds a batch
verify  `broker.verify.manifest_terms`  every reader ignores the whole batch and reports it
======  ==============================  =========================================================

========================  ===================  ==================================================
rule                      applied by           source
========================  ===================  ==================================================
``RECORD_PURPOSE``        input, send, verify  LED art. 25(2): four purposes are for the log only
``CHANNEL_PURPOSE``       send, verify         LED art. 4(1)(b): the channel's legal basis
``REVIEW_IN_PAST``        send, verify         LED art. 5: the need is reviewed after sharing
``REVIEW_AFTER_ERASURE``  input, send, verify  LED art. 5: the need is reviewed before erasure
``ERASURE_IN_PAST``       input, send, verify  LED art. 5: nothing is shared after its last day
``CHANNEL_CEILING``       input, send, verify  LED art. 5: the channel's longest retention
``TARGETS_OF_ACTION``     input, send, verify  schemas/README.md: NEW has no targets, others do
``TARGET_COUNT``          input, send, verify  schemas/README.md: at most 256 targets
``TARGET_INDEX``          input, send, verify  schemas/README.md: a batch has 256 places at most
``HANDLING_ORDER``        send, verify         schemas/README.md: sorted lists, each value once
``RELEASED_TO_MEMBERS``   send, verify         LED art. 4(1)(f): only members may receive a record
========================  ===================  ==================================================

Input knows neither the channel's purposes nor its members, and it sorts the lists itself. LED is Directive
(EU) 2016/680. Days are counted from 1970-01-01, UTC.
"""

from __future__ import annotations

from collections.abc import Set
from enum import Enum, auto
from itertools import pairwise
from typing import Final, Protocol

from broker.wire.limits import MAX_RECORDS, MAX_TARGETS
from broker.wire.terms import LOG_PURPOSES, Action, Purpose, RecordTerms

__all__ = [
    "MAX_TARGETS",
    "RECORD_PURPOSES",
    "TARGET_INDEXES",
    "ChannelLimits",
    "TermRule",
    "broken_retention",
    "broken_rules",
    "fits_action",
]

RECORD_PURPOSES: Final = tuple(purpose for purpose in Purpose if purpose not in LOG_PURPOSES)
"""The purposes that a record may have."""

TARGET_INDEXES: Final = range(MAX_RECORDS)
"""The places that a batch can have."""


class TermRule(Enum):
    """A rule for the terms of a record, named after what is wrong when it is broken."""

    RECORD_PURPOSE = auto()
    CHANNEL_PURPOSE = auto()
    REVIEW_IN_PAST = auto()
    REVIEW_AFTER_ERASURE = auto()
    ERASURE_IN_PAST = auto()
    CHANNEL_CEILING = auto()
    TARGETS_OF_ACTION = auto()
    TARGET_COUNT = auto()
    TARGET_INDEX = auto()
    HANDLING_ORDER = auto()
    RELEASED_TO_MEMBERS = auto()


class ChannelLimits(Protocol):
    """What the rules need to know of a channel; `broker.directory.Channel` is one."""

    @property
    def purposes(self) -> Set[Purpose]: ...

    @property
    def members(self) -> Set[str]: ...

    @property
    def ceiling_days(self) -> int: ...


def broken_rules(terms: RecordTerms, channel: ChannelLimits, day: int) -> list[TermRule]:
    """Return the rules that these terms break in this channel, in the order of `TermRule`.

    ``day`` is the day on which the record is issued: a reader years later judges by the same day.
    The list is empty for terms that may be published.
    """
    # Callers report the first of the list, so its order decides what a person reads.
    broken: list[TermRule] = []
    # The directory refuses a channel for these purposes as well. Here the rule does not rely on that.
    if terms.purpose in LOG_PURPOSES:
        broken.append(TermRule.RECORD_PURPOSE)
    if terms.purpose not in channel.purposes:
        broken.append(TermRule.CHANNEL_PURPOSE)
    broken += broken_retention(terms.review_by, terms.erase_by, day, channel.ceiling_days)
    targets = terms.targets
    if not fits_action(terms.action, len(targets)):
        broken.append(TermRule.TARGETS_OF_ACTION)
    if len(targets) > MAX_TARGETS:
        broken.append(TermRule.TARGET_COUNT)
    if targets and any(target.index not in TARGET_INDEXES for target in targets):
        broken.append(TermRule.TARGET_INDEX)
    handling = terms.handling
    # Equal conditions must be equal bytes: another order would be a second way to say the same.
    if not (_is_ascending(handling.codes) and _is_ascending(handling.releasable_to)):
        broken.append(TermRule.HANDLING_ORDER)
    if not channel.members >= set(handling.releasable_to):
        broken.append(TermRule.RELEASED_TO_MEMBERS)
    return broken


def broken_retention(
    review_by: int | None, erase_by: int | None, day: int, ceiling_days: int | None
) -> list[TermRule]:
    """Return the rules of retention that these days break (LED art. 5).

    None stands for a day that could not be read, or for a ceiling that is not known: rules that need it
    are left out.
    """
    broken: list[TermRule] = []
    # Equal days keep every rule: a record may be reviewed and erased on the day on which it was issued.
    if review_by is not None and review_by < day:
        broken.append(TermRule.REVIEW_IN_PAST)
    if erase_by is None:
        return broken
    if review_by is not None and review_by > erase_by:
        broken.append(TermRule.REVIEW_AFTER_ERASURE)
    if erase_by < day:
        broken.append(TermRule.ERASURE_IN_PAST)
    if ceiling_days is not None and erase_by > day + ceiling_days:
        broken.append(TermRule.CHANNEL_CEILING)
    return broken


def fits_action(action: Action, targets: int) -> bool:
    """Tell whether a record with this action may name so many earlier records."""
    return (targets == 0) is (action is Action.NEW)


def _is_ascending(values: tuple[str, ...]) -> bool:
    return all(before < after for before, after in pairwise(values))
