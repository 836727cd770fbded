"""The quick check of decoded bodies takes most right bodies and no wrong body."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.avro.schema import default_store
from broker.records import body_check
from broker.records.body import MAX_ITEMS, BodyCheck, compile_body
from broker.records.check import Circumstances, Problem
from broker.records.codes import code_lists
from broker.records.json_terms import flat_terms
from broker.records.words import EPOCH
from support.record_data import TODAY, read, valid

TYPES = sorted(default_store().record_types)
AROUND = {
    name: Circumstances(terms=flat_terms(read(valid(name)).terms), day=(TODAY - EPOCH).days) for name in TYPES
}


def check_of(record_type: str) -> BodyCheck:
    schema = default_store().current(record_type)
    return compile_body(schema.schema, lists=code_lists(schema.path.parent), from_json=False)


CHECKS = {name: check_of(name) for name in TYPES}
BODIES = {name: read(valid(name)).body for name in TYPES}

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**65),
    st.floats(allow_nan=False),
    st.binary(max_size=40),
    st.sampled_from(
        ("", "CHILD", "ADULT", "UNKNOWN", "SUSPECT", "CONVICTED", "UNSPECIFIED", "XAA", "M49:145", "2026-13")
    ),
    st.sampled_from(
        ("2026-05-01~", "XAA:police", "6f9619ff-8b86-3011-b42d-00cf4fc964ff", "INTENDED", "FACT")
    ),
    st.text(max_size=20),
    st.lists(st.sampled_from(("XAA", "XBB", "TRAVEL", "NO_DEATH_PENALTY_OR_CIDT")), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key, inner in value.items() for place in places(inner, (*path, key))]
    if isinstance(value, list):
        found += [place for i, inner in enumerate(value) for place in places(inner, (*path, i))]
    return found


def slow(record_type: str, body: Any) -> list[Problem]:
    problems: list[Problem] = []
    CHECKS[record_type].run(body, problems, AROUND[record_type])
    return problems


@pytest.mark.parametrize("record_type", TYPES)
def test_a_right_body_is_taken(record_type: str) -> None:
    """A right body needs no second look."""
    is_clean = CHECKS[record_type].is_clean
    assert is_clean is not None
    assert is_clean(BODIES[record_type], AROUND[record_type])


@given(st.data())
def test_a_body_that_is_taken_is_right(data: st.DataObject) -> None:
    """Whatever stands anywhere in a body, a body that the quick check takes has no problem."""
    record_type = data.draw(st.sampled_from(TYPES))
    body = deepcopy(BODIES[record_type])
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places(body)))
        inside: Any = body
        for step in above:
            inside = inside[step]
        change = data.draw(st.sampled_from(("replace", "remove", "add", "repeat")))
        if change == "replace":
            inside[last] = data.draw(LEAVES)
        elif change == "remove":
            del inside[last]
        elif isinstance(inside, list):
            inside.append(deepcopy(inside[last]) if change == "repeat" else data.draw(LEAVES))
        else:
            inside["added"] = data.draw(LEAVES)
    is_clean = CHECKS[record_type].is_clean
    assert is_clean is not None
    if is_clean(body, AROUND[record_type]):
        assert slow(record_type, body) == []


@pytest.mark.parametrize("record_type", TYPES)
def test_every_wrong_leaf_is_left_to_the_second_look(record_type: str) -> None:
    """A body with a single wrong value, wherever it stands, is not taken."""
    is_clean = CHECKS[record_type].is_clean
    assert is_clean is not None
    for place in places(BODIES[record_type]):
        for wrong in (3.5, b"x", "\x00", -1, [object()], {"a": 1}):
            body = deepcopy(BODIES[record_type])
            *above, last = place
            inside: Any = body
            for step in above:
                inside = inside[step]
            inside[last] = wrong
            if slow(record_type, body):
                assert not is_clean(body, AROUND[record_type]), place


def test_lists_are_bounded() -> None:
    """A list that is too long is not taken."""
    body = deepcopy(BODIES["ReturnEvent"])
    body["nationalities"] = ["XAA"] * (MAX_ITEMS + 1)
    is_clean = CHECKS["ReturnEvent"].is_clean
    assert is_clean is not None
    assert not is_clean(body, AROUND["ReturnEvent"])


def test_a_long_text_in_place_of_a_date_is_not_kept() -> None:
    """A member cannot fill the memory of a reader with long texts where a date belongs."""
    is_clean = CHECKS["ReturnEvent"].is_clean
    assert is_clean is not None
    body = deepcopy(BODIES["ReturnEvent"]) | {"event_date": "2026-10-02" + "x" * 30_000}
    kept = body_check._is_partial_date.cache_info().currsize
    assert not is_clean(body, AROUND["ReturnEvent"])
    assert body_check._is_partial_date.cache_info().currsize == kept
