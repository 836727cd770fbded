"""Records from JSON and back: which are taken, which are refused, and in which words."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.avro.schema import default_store
from broker.avro.schema_file import schemas_folder
from broker.errors import FormatError, RecordInvalid
from broker.records import record as records
from broker.records.body import NOTE
from broker.records.record import (
    MAX_BODY_BYTES,
    ORDERS,
    Action,
    HandlingCode,
    Record,
    Tlp,
    check_received,
    decode_body,
    encode_body,
    from_json,
    new_record_id,
    to_json,
)
from broker.wire.terms import Handling, Purpose, RecordTerms, Target
from support.record_data import TODAY, problems, read, valid

TYPES = default_store().record_types
TARGET = {"batch_id": "ab" * 32, "index": 3}


# --- what is taken


@pytest.mark.parametrize("record_type", TYPES)
def test_a_record_comes_back_from_its_bytes_and_from_its_json(record_type: str) -> None:
    """A right record of each type survives Avro and JSON unchanged."""
    record = read(valid(record_type))
    schema = default_store().current(record_type)
    encoded = encode_body(record, schema)
    assert decode_body(encoded, schema) == record.body
    assert read(json.loads(json.dumps(to_json(record)))) == record
    assert 60 < len(encoded) < 400


def test_defaults_are_filled_in() -> None:
    """A field that the clerk leaves out gets the default of the schema, so that the body encodes."""
    body = read(valid("RelocationEvent", {"body.subject.sex": ...})).body
    assert body["use_limits"] == ["NO_DEATH_PENALTY_OR_CIDT"]
    assert body["requested_action"] == "CONTACT_ORIGINATOR_FIRST"
    assert body["subject"]["sex"] == "U"
    assert (body["external_refs"], body["relatives"], body["from_place"], body[NOTE]) == ([], [], None, None)


def test_defaults_are_not_shared_between_records() -> None:
    """Changing one record's list changes no other record's."""
    read(valid("ReturnEvent")).body["use_limits"].append("OTHER")
    assert read(valid("ReturnEvent")).body["use_limits"] == ["NO_DEATH_PENALTY_OR_CIDT"]


def test_terms_are_kept_as_the_manifest_says_them() -> None:
    """Dates become days, codes are put in order, and TLP 2.0's plus becomes what Avro can carry."""
    changes: dict[str, object] = {
        "action": "RECTIFY",
        "targets": [TARGET],
        "handling": {
            "codes": ["H2", "H0"],
            "tlp": "AMBER+STRICT",
            "releasable_to": ["XBB:police", "XAA:police"],
        },
    }
    record = read(valid("ReturnEvent", changes))
    assert record.terms == RecordTerms(
        action=Action.RECTIFY,
        targets=(Target(batch_id=b"\xab" * 32, index=3),),
        handling=Handling(
            codes=(HandlingCode.H0, HandlingCode.H2),
            tlp=Tlp.AMBER_STRICT,
            releasable_to=("XAA:police", "XBB:police"),
        ),
        purpose=Purpose.PUBLIC_SECURITY,
        review_by=(date(2027, 5, 1) - date(1970, 1, 1)).days,
        erase_by=(date(2029, 5, 1) - date(1970, 1, 1)).days,
    )
    assert to_json(record)["handling"]["tlp"] == "AMBER+STRICT"
    assert to_json(record)["targets"] == [TARGET]


@pytest.mark.parametrize("action", sorted(ORDERS))
def test_an_order_has_an_empty_body(action: str) -> None:
    """An order says nothing about a person: its body is zero bytes, and JSON has no body."""
    record = read(valid("ReturnEvent", {"action": action, "targets": [TARGET], "body": ...}))
    schema = default_store().current("ReturnEvent")
    assert record.body == {}
    assert encode_body(record, schema) == b""
    assert decode_body(b"", schema) == {}
    assert "body" not in to_json(record)
    assert read(to_json(record)) == record
    assert check_received("ReturnEvent", schema, record.terms, {}, issued_on=TODAY) == ()


def test_a_record_id_is_kept_or_made() -> None:
    """A record brings its UUIDv7 or gets a fresh one."""
    kept = "01920000-0000-7000-8000-000000000001"
    assert read(valid("ReturnEvent") | {"record_id": kept}).record_id == UUID(kept).bytes
    made = UUID(bytes=read(valid("ReturnEvent")).record_id)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert new_record_id() != new_record_id()


def test_the_record_type_may_come_from_the_file() -> None:
    """A file of one type need not repeat it in each record."""
    bare = valid("ReturnEvent")
    del bare["record_type"]
    assert read(bare, "ReturnEvent").record_type == "ReturnEvent"


def test_uuids_are_kept_in_small_letters() -> None:
    """Two spellings of one subject are one subject."""
    record = read(valid("ReturnEvent", {"body.subject.ref": "6F9619FF-8B86-4011-B42D-00CF4FC964FF"}))
    assert record.body["subject"]["ref"] == "6f9619ff-8b86-4011-b42d-00cf4fc964ff"


# --- what is refused

WRONG: list[tuple[str, str, object, str]] = [
    (
        "ReturnEvent",
        "record_id",
        "6f9619ff-8b86-4011-b42d-00cf4fc964ff",
        "record_id: the value is not a UUIDv7",
    ),
    ("ReturnEvent", "record_id", 7, "record_id: the value is not a UUIDv7"),
    ("ReturnEvent", "action", "DELETE", "action: this word is not allowed here, expected NEW, RECTIFY"),
    ("ReturnEvent", "purpose", ..., "purpose: the field is missing, expected PREVENTION"),
    ("ReturnEvent", "purpose", "prevention", "purpose: this word is not allowed here"),
    (
        "ReturnEvent",
        "review_by",
        "20270501",
        "review_by: the value is not a date, expected a day such as 2027-05-01",
    ),
    ("ReturnEvent", "review_by", "2027-02-30", "review_by: the value is not a date"),
    ("ReturnEvent", "erase_by", 20_000, "erase_by: the value is not a date"),
    (
        "ReturnEvent",
        "handling",
        ...,
        "handling: the field is missing, expected an object with codes, tlp and releasable_to",
    ),
    (
        "ReturnEvent",
        "handling.tpl",
        "RED",
        "handling.tpl: handling has no field of this name (did you mean tlp?)",
    ),
    ("ReturnEvent", "handling.tlp", "WHITE", "handling.tlp: this word is not allowed here"),
    ("ReturnEvent", "handling.codes", ["H9"], "handling.codes[0]: this word is not allowed here"),
    ("ReturnEvent", "handling.codes", ["H1", "H1"], "handling.codes: the list names a code twice"),
    ("ReturnEvent", "handling.codes", "H1", "handling.codes: the value is not a list"),
    (
        "ReturnEvent",
        "handling.releasable_to",
        ["police"],
        "handling.releasable_to[0]: the value is not an authority",
    ),
    (
        "ReturnEvent",
        "handling.releasable_to",
        ["XAA:b", "XAA:b"],
        "handling.releasable_to: the list names an authority twice",
    ),
    ("ReturnEvent", "targets", "all", "targets: the value is not a list"),
    (
        "ReturnEvent",
        "reveiw_by",
        "2027-05-01",
        "reveiw_by: the record has no field of this name (did you mean review_by?)",
    ),
    (
        "ReturnEvent",
        "body",
        ...,
        "body: the value is not an object, expected an object with named fields, got nothing",
    ),
    ("ReturnEvent", "body", [], "body: the value is not an object"),
    (
        "ReturnEvent",
        "body.name",
        "X",
        "body.name: the record has no field of this name, expected it to be left out",
    ),
    ("ReturnEvent", "body.subject.name", "X", "body.subject.name: the record has no field of this name"),
    (
        "ReturnEvent",
        "body.stage",
        ...,
        "body.stage: the field is missing, expected PLANNED, DEPARTED, ARRIVED or CANCELLED",
    ),
    (
        "ReturnEvent",
        "body.stage",
        "arrivd",
        "body.stage: this word is not allowed here, expected PLANNED,"
        " DEPARTED, ARRIVED or CANCELLED (did you mean ARRIVED?), got 'arrivd'",
    ),
    ("ReturnEvent", "body.subject.ref", "0042", "body.subject.ref: the value is not a UUID"),
    ("ReturnEvent", "body.subject.ref", ..., "body.subject.ref: the field is missing, expected a UUID"),
    (
        "ReturnEvent",
        "body.evaluation.information",
        5,
        "body.evaluation.information: the value is not an allowed number,"
        " expected a whole number from 1 to 4, got 5",
    ),
    (
        "ReturnEvent",
        "body.evaluation.information",
        True,
        "body.evaluation.information: the value is not an allowed number",
    ),
    (
        "ReturnEvent",
        "body.evaluation.information",
        10**5000,
        "body.evaluation.information: the value is not an allowed number",
    ),
    (
        "ReturnEvent",
        "body.evaluation.lawful_collection",
        1,
        "body.evaluation.lawful_collection: this value is not allowed",
    ),
    (
        "ReturnEvent",
        "body.legal_basis.citation",
        "because we can 1",
        "body.legal_basis.citation: the value has the wrong form",
    ),
    (
        "ReturnEvent",
        "body.event_date",
        "2026-02-30",
        "body.event_date: the value is not a date, expected a date such as",
    ),
    ("ReturnEvent", "body.event_date", "0000", "body.event_date: the value is not a date"),
    ("ReturnEvent", "body.event_date", "٢٠٢٦", "body.event_date: the value is not a date"),
    ("ReturnEvent", "body.from_place", "Syria", "body.from_place: this code is not in the code list places"),
    (
        "ReturnEvent",
        "body.from_place",
        "M49:999",
        "body.from_place: this code is not in the code list places",
    ),
    ("ReturnEvent", "body.to_place", "XXA", "body.to_place: this code is not in the code list places"),
    (
        "ReturnEvent",
        "body.nationalities",
        ["XAA", "XAA"],
        "body.nationalities: the list names an entry twice",
    ),
    (
        "ReturnEvent",
        "body.nationalities",
        ["ZZZ"],
        "body.nationalities[0]: this code is not in the code list nationalities",
    ),
    (
        "ReturnEvent",
        "body.nationalities",
        ["XAA"] * 300,
        "body.nationalities: the list has too few or too many entries",
    ),
    (
        "ReturnEvent",
        "body.receiving_authority",
        "border",
        "body.receiving_authority: the value has the wrong form",
    ),
    (
        "ReturnEvent",
        "body.travel_document.type",
        "Q",
        "body.travel_document.type: this code is not in the code list",
    ),
    (
        "ReturnEvent",
        "body.relatives",
        [{"ref": 1, "relation": "CHILD"}],
        "body.relatives[0].ref: the value is not a UUID",
    ),
    ("ReturnEvent", "body.relatives", [3], "body.relatives[0]: the value is not an object"),
    (
        "ReturnEvent",
        "body.use_limits",
        ["UNSPECIFIED"],
        "body.use_limits[0]: this word is not allowed here",
    ),
    (
        "EmergenceReport",
        "body.alleged_conduct",
        [],
        "body.alleged_conduct: the list has too few or too many entries",
    ),
    ("EmergenceReport", "body.un_group_ref", "QDi.001", "body.un_group_ref: the value has the wrong form"),
    (
        "EmergenceReport",
        "body.human_review.reviewed_at",
        "2026-09-01",
        "body.human_review.reviewed_at: the value is not a point in time",
    ),
    (
        "EmergenceReport",
        "body.human_review.reviewed_at",
        "2026-09-31T00:00:00Z",
        "body.human_review.reviewed_at: the value is not",
    ),
    (
        "EmergenceReport",
        "body.evidence_refs",
        [{"sha256": "ab", "holder": "XBB:justice", "kind": "DOCUMENT"}],
        "body.evidence_refs[0].sha256: the value has the wrong form, expected 64 hexadecimal digits",
    ),
    (
        "RehabilitationEvent",
        "body.programme_ref",
        "Home 3",
        "body.programme_ref: the value has the wrong form",
    ),
    (
        "RehabilitationEvent",
        "body.components",
        ["CHESS"],
        "body.components[0]: this code is not in the code list",
    ),
    (
        "JusticeMeasure",
        "body.final",
        "yes",
        "body.final: this value is not allowed here, expected true or false",
    ),
    (
        "JusticeMeasure",
        "body.jurisdiction",
        "M49:150",
        "body.jurisdiction: this code is not in the code list countries",
    ),
    (
        "JusticeMeasure",
        "body.external_refs",
        [{"scheme": "OTHER", "value": "my friend"}],
        "body.external_refs[0].value: the value has the wrong form",
    ),
]


@pytest.mark.parametrize(
    ("record_type", "path", "value", "words"), WRONG, ids=[f"{w[1]}-{i}" for i, w in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_in_words(record_type: str, path: str, value: object, words: str) -> None:
    """Each wrong value is one problem that names its field and says what was expected."""
    found = problems(valid(record_type, {path: value}))
    assert len(found) == 1, found
    assert found[0].startswith(words)


@pytest.mark.parametrize("value", [None, 3, "record", [], True])
def test_a_value_that_is_not_an_object_is_refused(value: object) -> None:
    """A record is a JSON object."""
    (problem,) = problems(value, "ReturnEvent")
    assert problem.startswith(
        "record: the value is not an object, expected an object with named fields, got "
    )


def test_record_types_that_disagree_are_refused() -> None:
    """A record of another type than its file, or of no known type, is refused with a suggestion."""
    (problem,) = problems(valid("ReturnEvent"), "RelocationEvent")
    said = "record_type: the record type is not the type of this file"
    assert problem == f"{said}, expected RelocationEvent, got 'ReturnEvent'"
    (problem,) = problems(valid("ReturnEvent") | {"record_type": "ReturnEvents"})
    assert "(did you mean ReturnEvent?)" in problem
    (problem,) = problems(valid("ReturnEvent", {"record_type": ...}))
    assert problem.startswith("record_type: the record type is not known here")


def test_wrong_targets_are_told_apart() -> None:
    """Each wrong part of a target is named with its place in the list."""
    targets = [TARGET, {"batch_id": "AB" * 32, "index": 256}, 5, TARGET | {"offset": 1}]
    found = problems(valid("ReturnEvent", {"action": "RECTIFY", "targets": targets}))
    assert [p.split(":")[0] for p in found] == [
        "targets[1].batch_id",
        "targets[1].index",
        "targets[2]",
        "targets[3].offset",
    ]


def test_control_characters_in_a_note_are_refused() -> None:
    """A note that could paint over a terminal, or that UTF-8 cannot carry, is refused."""
    for note in ("a\x1b[2Jb", "a\nb", "\ud800", "  ", "\u202eabc"):
        (problem,) = problems(valid("ReturnEvent", {"handling.codes": ["H3"], "body.handling_note": note}))
        assert problem.startswith("body.handling_note: the value is not a handling note")


def test_a_message_stays_short_whatever_the_value() -> None:
    """A wrong value of a megabyte, or a thousand wrong fields, do not make a megabyte of messages."""
    found = problems(valid("ReturnEvent", {"body.stage": "x" * 1_000_000}))
    assert len(found[0]) < 300
    found = problems(valid("ReturnEvent") | {"x" * 1_000_000: 1, "\ud800": 2})
    assert all(len(problem) < 300 for problem in found)
    crowded = valid("ReturnEvent")
    crowded["body"] |= {f"x{n}": n for n in range(1000)}
    found = problems(crowded)
    assert len(found) == 17
    assert found[-1] == "body: there are 984 more unknown fields"


def test_a_body_is_at_most_32_kib() -> None:
    """A body that would not fit is refused before it is locked."""
    record = read(valid("ReturnEvent", {"handling.codes": ["H3"], "body.handling_note": "x"}))
    body = record.body | {NOTE: "x" * MAX_BODY_BYTES}
    huge = Record(record_type=record.record_type, record_id=record.record_id, terms=record.terms, body=body)
    with pytest.raises(
        RecordInvalid, match="body: the body is too large, expected at most 32768 bytes, got "
    ):
        encode_body(huge, default_store().current("ReturnEvent"))


def test_a_subject_is_never_the_hash_of_a_name() -> None:
    """A name-based UUID is refused for a person, since a dictionary finds it."""
    hashed = str(uuid5(NAMESPACE_DNS, "SYNTH-0042 TESTPERSON 1990-01-01"))
    (problem,) = problems(valid("ReturnEvent", {"body.subject.ref": hashed}))
    assert problem.startswith("body.subject.ref: the UUID is the hash of a name, expected a random UUID")
    relative = {"ref": hashed, "relation": "CHILD"}
    (problem,) = problems(valid("ReturnEvent", {"body.relatives": [relative]}))
    assert problem.startswith("body.relatives[0].ref: the UUID is the hash of a name")
    assert problems(valid("ReturnEvent", {"body.group_ref": hashed})) == ()


# --- what a peer sent


def test_a_peer_that_breaks_rules_is_reported() -> None:
    """Rules broken in what a peer published are reported in the same words, and nothing is raised."""
    record = read(valid("ReturnEvent"))
    schema = default_store().current("ReturnEvent")
    child = record.body["subject"] | {"age_band": "CHILD", "category": "SUSPECT"}
    body = record.body | {"subject": child, "to_place": "Aldoria", NOTE: "hello"}
    found = check_received("ReturnEvent", schema, record.terms, body, issued_on=TODAY, ceiling_days=300)
    assert [problem.split(":")[0] for problem in found] == [
        "erase_by",
        "body.subject.category",
        "body.to_place",
        "body.handling_note",
    ]


def test_terms_of_a_peer_are_checked() -> None:
    """Terms that no clerk could have written are reported."""
    terms = RecordTerms(
        action=Action.NEW,
        targets=(Target(batch_id=b"", index=-1),),
        handling=Handling(codes=(HandlingCode.H1, HandlingCode.H1), tlp=Tlp.RED, releasable_to=("x",)),
        purpose=Purpose.LAWFULNESS,
        review_by=2**31 - 1,
        erase_by=-(2**31),
    )
    body = read(valid("ReturnEvent")).body
    schema = default_store().current("ReturnEvent")
    found = check_received("RelocationEvent", schema, terms, body, issued_on=TODAY, ceiling_days=30)
    paths = {problem.split(":")[0] for problem in found}
    assert paths >= {
        "record_type",
        "targets",
        "targets[0].index",
        "handling.codes",
        "handling.releasable_to[0]",
    }
    assert paths >= {"purpose", "review_by", "erase_by"}


@pytest.mark.parametrize("body", [None, 3, {}, [], {"subject": None}])
def test_a_peers_record_without_a_body_is_reported(body: object) -> None:
    """A new record without a body is reported, whatever stands in its place."""
    record = read(valid("ReturnEvent"))
    assert check_received(
        "ReturnEvent", default_store().current("ReturnEvent"), record.terms, body, issued_on=TODAY
    )


def test_an_order_with_a_body_is_reported() -> None:
    """A peer that repeats a person's data in an order is reported."""
    order = read(valid("ReturnEvent", {"action": "ERASE", "targets": [TARGET], "body": ...}))
    body = read(valid("ReturnEvent")).body
    schema = default_store().current("ReturnEvent")
    (problem,) = check_received("ReturnEvent", schema, order.terms, body, issued_on=TODAY)
    assert problem.startswith("body: ERASE must not have a body")


def test_bytes_that_are_not_a_body_are_a_format_error() -> None:
    """Bytes that the encoder would not write raise FormatError."""
    schema = default_store().current("ReturnEvent")
    encoded = encode_body(read(valid("ReturnEvent")), schema)
    for wrong in (encoded + b"\0", encoded[:-1], b"\xff"):
        with pytest.raises(FormatError):
            decode_body(wrong, schema)


# --- any JSON

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        below = list(value.items())
    if isinstance(value, list):
        below = list(enumerate(value))
    return [path] * bool(path) + [p for name, inner in below for p in _paths(inner, (*path, name))]


@given(value=_JSON)
def test_any_json_is_a_record_or_invalid(value: object) -> None:
    """Any JSON value is refused with problems, and nothing else happens."""
    for record_type in (None, "ReturnEvent"):
        with pytest.raises(RecordInvalid) as invalid:
            from_json(record_type, value, store=default_store(), today=TODAY)
        assert invalid.value.problems


@given(data=st.data(), record_type=st.sampled_from(TYPES), value=_JSON)
def test_any_json_anywhere_in_a_record_is_a_record_or_invalid(
    data: st.DataObject, record_type: str, value: object
) -> None:
    """Whatever stands in one place of a right record, it passes the peer's check too, or is refused."""
    obj = valid(record_type)
    *above, last = data.draw(st.sampled_from(_paths(obj)))
    inside: Any = obj
    for step in above:
        inside = inside[step]
    inside[last] = value
    try:
        record = read(obj)
    except RecordInvalid:
        assert all(len(problem) < 600 for problem in problems(obj))
        return
    schema = default_store().current(record.record_type)
    body = decode_body(encode_body(record, schema), schema)
    assert check_received(record.record_type, schema, record.terms, body, issued_on=TODAY) == ()
    assert read(to_json(record)) == record


# --- the schemas themselves


def _fields(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        return [found for branch in schema for found in _fields(branch, path)]
    if not isinstance(schema, dict):
        return []
    found = [(f"{path}.{field['name']}", field) for field in schema.get("fields", ())]
    found += [inner for at, field in found for inner in _fields(field["type"], at)]
    return found + _fields(schema.get("items"), path)


@pytest.mark.parametrize("record_type", TYPES)
def test_every_field_says_what_it_is_for(record_type: str) -> None:
    """Every field has words, every optional one a default, and only the note is free text."""
    schema = default_store().current(record_type)
    assert schema.schema["namespace"] == "ftf.records"
    fields = _fields(schema.schema)
    assert all(field["doc"].strip() for _, field in fields)
    assert all(field["default"] is None for _, field in fields if isinstance(field["type"], list))
    assert [at for at, field in fields if field.get("freeText")] == [".handling_note"]
    beginning = [at for at, _ in fields[:6]]
    assert beginning == [
        f".{name}" for name in ("subject", "evaluation", "legal_basis", "use_limits", "external_refs", NOTE)
    ]


def test_topics_are_one_to_a_record_type() -> None:
    """Each of the five record types has the topic that the coalition knows."""
    assert {name: default_store().current(name).topic for name in TYPES} == {
        "ReturnEvent": "returns",
        "RelocationEvent": "relocation",
        "RehabilitationEvent": "rehabilitation",
        "EmergenceReport": "emergence",
        "JusticeMeasure": "justice",
    }


def test_closed_legal_lists_have_a_default_that_nobody_writes() -> None:
    """Every enum has a default for later readers, and no input may use UNSPECIFIED."""
    for path in (schemas_folder() / "records").rglob("*.avsc"):
        for enum in _enums(json.loads(Path(path).read_text())):
            assert enum["default"] in enum["symbols"], enum["name"]
            assert enum.get("refused", []) == (["UNSPECIFIED"] if "UNSPECIFIED" in enum["symbols"] else [])


def _enums(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in _enums(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "enum" else []
    return own + [found for value in schema.values() for found in _enums(value)]


def test_public_names_exist() -> None:
    """The module has every name that it lists as public."""
    assert all(hasattr(records, name) for name in records.__all__)


def test_no_similar_code_is_searched_for_a_peers_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clerk is told of a similar code; a peer's wrong codes are reported without a search."""
    searched: list[str] = []
    monkeypatch.setattr(
        "broker.records.codes.get_close_matches", lambda code, *_, **__: searched.append(code)
    )
    schema = default_store().current("ReturnEvent")
    record = read(valid("ReturnEvent"))
    body = dict(record.body) | {"nationalities": [f"XQ{digit}" for digit in "01234567"]}
    found = check_received("ReturnEvent", schema, record.terms, body, issued_on=TODAY)
    assert len(found) >= 8
    assert searched == []
