"""The rules for the terms of a record, and the three places that apply them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.directory import Channel
from broker.errors import NotEntitled, UsageError
from broker.publish.permission import check_terms
from broker.records.json_terms import as_terms, check_retention, parse_terms, terms_to_json
from broker.records.term_rules import MAX_TARGETS, TermRule, broken_rules
from broker.verify.manifest_terms import check_record_terms, seal_recipients
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import Sealed
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp
from support.coalition import CARE, JUSTICE, KAS, POLICE_A, POLICE_B, Coalition
from support.partition_log import PartitionLog, record_terms

CHANNEL = "narrow"
CEILING_DAYS = 400
MEMBERS = (POLICE_A, POLICE_B, JUSTICE)
PURPOSES = (Purpose.INVESTIGATION, Purpose.PROSECUTION)


@cache
def coalition() -> Coalition:
    """A coalition with a channel that allows little."""
    made = Coalition.create()
    made.open_channel(CHANNEL, 3, MEMBERS, purposes=PURPOSES, ceiling_days=CEILING_DAYS)
    return made


def channel() -> Channel:
    found = coalition().directory.channel(CHANNEL)
    assert found is not None
    return found


DAY = coalition().day


def target(index: int = 0, batch: int = 0) -> Target:
    return Target(batch_id=batch.to_bytes(32, "big"), index=index)


def handling(codes: Sequence[HandlingCode] = (), releasable_to: Sequence[str] = ()) -> Handling:
    return Handling(codes=tuple(codes), tlp=Tlp.AMBER, releasable_to=tuple(releasable_to))


def terms(**changes: Any) -> RecordTerms:
    """Terms that keep every rule, with changes."""
    right = record_terms(DAY, review_by=DAY + 10, erase_by=DAY + 20, handling=handling())
    return replace(right, **changes)


CASES: list[tuple[str, dict[str, Any], list[TermRule]]] = [
    ("right", {}, []),
    ("another purpose of the channel", {"purpose": Purpose.PROSECUTION}, []),
    ("a purpose of other channels", {"purpose": Purpose.PREVENTION}, [TermRule.CHANNEL_PURPOSE]),
    (
        "a purpose of the access log",
        {"purpose": Purpose.SELF_MONITORING},
        [TermRule.RECORD_PURPOSE, TermRule.CHANNEL_PURPOSE],
    ),
    ("all on the day of issue", {"review_by": DAY, "erase_by": DAY}, []),
    ("reviewed yesterday", {"review_by": DAY - 1}, [TermRule.REVIEW_IN_PAST]),
    ("reviewed on the last day", {"review_by": DAY + 20}, []),
    ("reviewed after the last day", {"review_by": DAY + 21}, [TermRule.REVIEW_AFTER_ERASURE]),
    (
        "erased yesterday",
        {"review_by": DAY - 1, "erase_by": DAY - 1},
        [TermRule.REVIEW_IN_PAST, TermRule.ERASURE_IN_PAST],
    ),
    ("kept to the ceiling", {"erase_by": DAY + CEILING_DAYS}, []),
    ("kept beyond the ceiling", {"erase_by": DAY + CEILING_DAYS + 1}, [TermRule.CHANNEL_CEILING]),
    ("a new record with a target", {"targets": (target(),)}, [TermRule.TARGETS_OF_ACTION]),
    ("an order with a target", {"action": Action.ERASE, "targets": (target(),)}, []),
    ("an order without a target", {"action": Action.ERASE}, [TermRule.TARGETS_OF_ACTION]),
    (
        "as many targets as there may be",
        {"action": Action.ERASE, "targets": tuple(target(i) for i in range(MAX_TARGETS))},
        [],
    ),
    (
        "a target too many",
        {"action": Action.ERASE, "targets": tuple(target(0, i) for i in range(MAX_TARGETS + 1))},
        [TermRule.TARGET_COUNT],
    ),
    ("the last place", {"action": Action.ERASE, "targets": (target(255),)}, []),
    (
        "a place behind the last",
        {"action": Action.ERASE, "targets": (target(0), target(256))},
        [TermRule.TARGET_INDEX],
    ),
    ("a negative place", {"action": Action.ERASE, "targets": (target(-1),)}, [TermRule.TARGET_INDEX]),
    ("codes in order", {"handling": handling([HandlingCode.H0, HandlingCode.H2])}, []),
    (
        "codes not in order",
        {"handling": handling([HandlingCode.H2, HandlingCode.H0])},
        [TermRule.HANDLING_ORDER],
    ),
    ("a code twice", {"handling": handling([HandlingCode.H1] * 2)}, [TermRule.HANDLING_ORDER]),
    ("released to members", {"handling": handling(releasable_to=[POLICE_A, JUSTICE])}, []),
    (
        "released to members, not in order",
        {"handling": handling(releasable_to=[JUSTICE, POLICE_A])},
        [TermRule.HANDLING_ORDER],
    ),
    (
        "released to an agency outside",
        {"handling": handling(releasable_to=[CARE])},
        [TermRule.RELEASED_TO_MEMBERS],
    ),
]


@pytest.mark.parametrize(("changes", "broken"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_rule_is_kept_at_its_edge_and_broken_behind_it(
    changes: dict[str, Any], broken: list[TermRule]
) -> None:
    """Terms break exactly the rules that their change is about."""
    assert broken_rules(terms(**changes), channel(), DAY) == broken


def test_every_rule_has_a_case() -> None:
    """No rule is listed that no terms can break."""
    assert {rule for _, _, broken in CASES for rule in broken} == set(TermRule)


# --- the three places


@cache
def opened() -> OpenedManifest:
    """A manifest of this channel that verifies."""
    place = PartitionLog(coalition(), "returns", channel().number)
    header = place.header(POLICE_A)
    key, value = place.build(header, [b"a body"], [terms()]).messages[0]
    envelope = parse_envelope(key, value)
    assert envelope is not None
    keys = coalition().epoch_keys(CHANNEL, header.epoch, KAS)["metadata"].keys
    found = open_manifest(envelope, topic="returns", partition=channel().number, keys=keys)
    assert found is not None
    return found


def manifest_with(changed: RecordTerms) -> OpenedManifest:
    """The manifest with these terms, and with its member share sealed to the agencies that they name."""
    manifest = opened().manifest
    seals: list[Sealed] = []
    if changed.handling.releasable_to:
        names = seal_recipients(POLICE_A, changed.handling.releasable_to)
        keys = [coalition().directory.receiving_key(name) for name in names]
        seals = [Sealed(key_id=key_id, sealed=b"") for key_id, _ in keys]
    return replace(
        opened(),
        manifest=replace(manifest, member_seals=tuple(seals)),
        entries=replace(opened().entries, terms=(changed,)),
    )


def is_permitted(changed: RecordTerms) -> bool:
    """Tell whether a publisher lets these terms out."""
    try:
        check_terms(channel(), changed, DAY)
    except UsageError:
        return False
    return True


def is_accepted(changed: RecordTerms) -> bool:
    """Tell whether a reader accepts a manifest with these terms."""
    try:
        check_record_terms(coalition().directory, channel(), manifest_with(changed))
    except NotEntitled:
        return False
    return True


def json_problems(changed: RecordTerms) -> list[tuple[str, str]]:
    """The problems that these terms have as JSON."""
    problems: list[tuple[str, str]] = []
    flat = parse_terms(terms_to_json(changed), problems, ())
    check_retention(flat, DAY, CEILING_DAYS, problems)
    return problems


@pytest.mark.parametrize(("changes", "broken"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_publisher_and_reader_apply_every_rule(changes: dict[str, Any], broken: list[TermRule]) -> None:
    """What breaks a rule is not published, and is accepted by no reader; what breaks none is both."""
    assert is_permitted(terms(**changes)) is not bool(broken)
    assert is_accepted(terms(**changes)) is not bool(broken)


NOT_IN_JSON = {
    TermRule.CHANNEL_PURPOSE,
    TermRule.REVIEW_IN_PAST,
    TermRule.HANDLING_ORDER,
    TermRule.RELEASED_TO_MEMBERS,
}
"""Rules that need the channel, the review day, which publishers check, and an order that JSON lacks."""


@pytest.mark.parametrize(("changes", "broken"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_json_applies_the_rules_that_it_can(changes: dict[str, Any], broken: list[TermRule]) -> None:
    """Terms in JSON are refused when they break a rule that needs no channel."""
    is_twice = changes.get("handling") == handling([HandlingCode.H1] * 2)
    assert bool(json_problems(terms(**changes))) is (is_twice or not set(broken) <= NOT_IN_JSON)


DAYS = st.sampled_from([-1, 0, 1, 19, CEILING_DAYS, CEILING_DAYS + 1]) | st.integers(-(2**31), 2**31 - 1)
TERMS = st.builds(
    RecordTerms,
    action=st.sampled_from(Action),
    targets=st.lists(st.builds(target, st.integers(-1, 257), st.integers(0, 3)), max_size=3, unique=True).map(
        tuple
    ),
    handling=st.builds(
        handling,
        st.lists(st.sampled_from(HandlingCode), max_size=3),
        st.lists(st.sampled_from([*MEMBERS, CARE]), max_size=3),
    ),
    purpose=st.sampled_from([*PURPOSES, *Purpose]),
    review_by=DAYS.map(lambda day: DAY + day if abs(day) < 1000 else day),
    erase_by=DAYS.map(lambda day: DAY + day if abs(day) < 1000 else day),
)
PLAUSIBLE = st.builds(
    terms,
    action=st.sampled_from([Action.NEW, Action.ERASE]),
    targets=st.sampled_from([(), (target(255),), (target(256),)]),
    handling=st.builds(
        handling,
        st.sampled_from([(), (HandlingCode.H1, HandlingCode.H2)]),
        st.lists(st.sampled_from(MEMBERS), max_size=3, unique=True).map(sorted) | st.just([CARE]),
    ),
    review_by=st.sampled_from([DAY - 1, DAY, DAY + 20, DAY + 21]),
    erase_by=st.sampled_from([DAY, DAY + 20, DAY + CEILING_DAYS, DAY + CEILING_DAYS + 1]),
)
"""Terms that break few rules or none, so that the properties are not true for want of right terms."""


@given(changed=PLAUSIBLE | TERMS)
def test_what_a_publisher_lets_out_is_accepted_by_every_reader(changed: RecordTerms) -> None:
    """A publisher and a reader agree about all terms, so no publisher builds a batch that is void."""
    assert is_permitted(changed) == is_accepted(changed)


@given(changed=PLAUSIBLE | TERMS)
def test_what_json_accepts_breaks_no_rule_that_it_applies(changed: RecordTerms) -> None:
    """Terms that are read from JSON break at most the rules that need the channel or the day of issue."""
    problems: list[tuple[str, str]] = []
    flat = parse_terms(terms_to_json(changed), problems, ())
    check_retention(flat, DAY, CEILING_DAYS, problems)
    if not problems:
        broken = set(broken_rules(as_terms(flat), channel(), DAY))
        assert broken <= NOT_IN_JSON - {TermRule.HANDLING_ORDER}
    if is_permitted(changed):
        assert problems == [], "what a publisher lets out can be written as JSON and read again"
