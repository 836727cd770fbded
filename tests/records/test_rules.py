"""Every rule that the law puts on records: a record that keeps it, a record that breaks it, and the words."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from broker.avro.schema import SchemaStore, default_store
from broker.avro.schema_file import schemas_folder
from broker.errors import RecordInvalid, UsageError
from broker.records.body import compile_body
from broker.records.check import ABSENT, Circumstances
from broker.records.codes import code_lists
from broker.records.record import check_received, decode_body, encode_body, from_json
from broker.records.rules import compile_rules
from support.record_data import TODAY, problems, read, valid

TARGET = {"batch_id": "ab" * 32, "index": 3}
Changes = dict[str, object]

RULES: list[tuple[str, str, Changes, Changes, str]] = [
    # id, record type, changes that keep the rule, changes that break it, the problem's beginning
    (
        "child-never-suspect",
        "ReturnEvent",
        {"body.subject.age_band": "CHILD", "body.subject.category": "CONVICTED"},
        {"body.subject.age_band": "CHILD", "body.subject.category": "SUSPECT"},
        "body.subject.category: a child (or a person whose age is unknown) is a victim or another party",
    ),
    (
        "unknown-age-never-suspect",
        "JusticeMeasure",
        {"body.subject.age_band": "UNKNOWN", "body.subject.category": "VICTIM"},
        {"body.subject.age_band": "UNKNOWN", "body.subject.category": "SUSPECT"},
        "body.subject.category: a child (or a person whose age is unknown)",
    ),
    (
        "child-has-protection",
        "ReturnEvent",
        {"body.subject.age_band": "ADULT", "body.child_protection": None},
        {"body.subject.age_band": "CHILD", "body.child_protection": None},
        "body.child_protection: the return of a child",
    ),
    (
        "unknown-age-has-protection",
        "ReturnEvent",
        {"body.subject.age_band": "UNKNOWN"},
        {"body.subject.age_band": "UNKNOWN", "body.child_protection": ...},
        "body.child_protection: the return of a child (or of a person whose age is unknown)",
    ),
    (
        "no-report-about-a-child",
        "EmergenceReport",
        {"body.subject.age_band": "ADULT"},
        {"body.subject.age_band": "CHILD"},
        "body.subject.age_band: an emergence report about a child",
    ),
    (
        "no-report-about-an-unknown-age",
        "EmergenceReport",
        {},
        {"body.subject.age_band": "UNKNOWN"},
        "body.subject.age_band: an emergence report about a child (or a person whose age is unknown)"
        " is refused, expected ADULT (CRC art. 3 and 40; UN Key Principles), got 'UNKNOWN'",
    ),
    (
        "intended-is-assessment",
        "RelocationEvent",
        {"body.stage": "INTENDED", "body.evaluation.basis": "ASSESSMENT"},
        {"body.stage": "INTENDED"},
        "body.evaluation.basis: an intention is an assessment, not a fact,"
        " expected ASSESSMENT (LED art. 7(1)), got 'FACT'",
    ),
    (
        "lapsed-asks-no-notification",
        "RelocationEvent",
        {"body.stage": "LAPSED"},
        {"body.stage": "LAPSED", "body.requested_action": "NOTIFY_ON_ENTRY"},
        "body.requested_action: a suspicion that has lapsed raises no alert",
    ),
    (
        "suspect-needs-serious-grounds",
        "EmergenceReport",
        {"body.subject.category": "SUSPECT", "body.grounds": "SERIOUS_GROUNDS"},
        {"body.subject.category": "SUSPECT"},
        "body.grounds: only serious grounds make a suspect",
    ),
    (
        "information-expires",
        "EmergenceReport",
        {"body.grounds": "INFORMATION", "review_by": "2027-05-01", "erase_by": "2027-11-24"},
        {"body.grounds": "INFORMATION", "review_by": "2027-05-01", "erase_by": "2027-11-26"},
        "erase_by: mere information expires within 12 months, expected at most 366 days from today"
        " (LED art. 5), got '2027-11-26'",
    ),
    (
        "review-has-happened",
        "EmergenceReport",
        {"body.human_review.reviewed_at": "2026-11-24T23:59:59Z"},
        {"body.human_review.reviewed_at": "2026-11-26T00:00:00Z"},
        "body.human_review.reviewed_at: the human review comes before the sharing",
    ),
    (
        "notice-named",
        "JusticeMeasure",
        {"body.measure": "NOTICE", "body.notice": {"colour": "RED", "notice_id": "2026/77"}},
        {"body.measure": "NOTICE"},
        "body.notice: a notice says its colour and number",
    ),
    (
        "convicted-by-a-final-conviction",
        "JusticeMeasure",
        {"body.measure": "CONVICTION", "body.final": True, "body.subject.category": "CONVICTED"},
        {"body.measure": "CONVICTION", "body.final": True},
        "body.subject.category: a person with a final conviction is recorded as convicted",
    ),
    (
        "a conviction that is not final leaves the category open",
        "JusticeMeasure",
        {"body.measure": "CONVICTION", "body.final": False, "body.subject.category": "SUSPECT"},
        {"body.measure": "CONVICTION", "body.final": True, "body.subject.category": "SUSPECT"},
        "body.subject.category: a person with a final conviction",
    ),
    (
        "cleared-is-no-suspect",
        "JusticeMeasure",
        {"body.measure": "ACQUITTAL", "erase_by": "2027-10-01"},
        {"body.measure": "ACQUITTAL", "erase_by": "2027-10-01", "body.subject.category": "SUSPECT"},
        "body.subject.category: a person who was acquitted",
    ),
    (
        "cleared-is-kept-short",
        "JusticeMeasure",
        {"body.measure": "DISCONTINUED", "erase_by": "2027-10-01"},
        {"body.measure": "DISCONTINUED", "erase_by": "2028-10-01"},
        "erase_by: an acquittal or a discontinued case is kept for 12 months at most",
    ),
    (
        "ends-after-it-begins",
        "JusticeMeasure",
        {"body.effective_to": "2026"},
        {"body.effective_to": "2026-04"},
        "body.effective_to: a measure does not end before it was decided",
    ),
    (
        "consent-only-for-welfare",
        "RehabilitationEvent",
        {"body.legal_basis.kind": "CONSENT", "purpose": "REHAB_REINTEGRATION"},
        {"body.legal_basis.kind": "CONSENT"},
        "purpose: consent is a legal basis under welfare law only",
    ),
    (
        "ecli-form",
        "JusticeMeasure",
        {"body.external_refs": [{"scheme": "ECLI", "value": "ECLI:XB:SC:2026:101"}]},
        {"body.external_refs": [{"scheme": "ECLI", "value": "SC-2026-101"}]},
        "body.external_refs[0].value: an ECLI has five parts",
    ),
    (
        "notice-form",
        "JusticeMeasure",
        {"body.external_refs": [{"scheme": "INTERPOL_NOTICE", "value": "2026/101"}]},
        {"body.external_refs": [{"scheme": "INTERPOL_NOTICE", "value": "A-101"}]},
        "body.external_refs[0].value: an INTERPOL notice is a year and a number",
    ),
    (
        "unsc-form",
        "JusticeMeasure",
        {"body.external_refs": [{"scheme": "UNSC_REF", "value": "QDi.101"}]},
        {"body.external_refs": [{"scheme": "UNSC_REF", "value": "QDx.101"}]},
        "body.external_refs[0].value: a Security Council reference",
    ),
    (
        "lawful-collection",
        "ReturnEvent",
        {"body.evaluation.lawful_collection": True},
        {"body.evaluation.lawful_collection": False},
        "body.evaluation.lawful_collection: this value is not allowed here, expected true, got false",
    ),
    (
        "basis-is-stated",
        "ReturnEvent",
        {"body.evaluation.basis": "ASSESSMENT"},
        {"body.evaluation.basis": ...},
        "body.evaluation.basis: the field is missing, expected FACT or ASSESSMENT",
    ),
    (
        "unspecified-is-never-said",
        "ReturnEvent",
        {"body.subject.category": "VICTIM"},
        {"body.subject.category": "UNSPECIFIED"},
        "body.subject.category: this word is not allowed here, expected SUSPECT, CONVICTED,",
    ),
    # --- the terms of every record
    (
        "review-before-erasure",
        "ReturnEvent",
        {"review_by": "2029-05-01"},
        {"review_by": "2029-05-02"},
        "review_by: the day of review is after the day of erasure,"
        " expected 2029-05-01 or earlier (LED art. 5), got '2029-05-02'",
    ),
    (
        "not-expired",
        "ReturnEvent",
        {"review_by": "2026-11-24", "erase_by": "2026-11-24"},
        {"review_by": "2026-11-23", "erase_by": "2026-11-23"},
        "erase_by: the day of erasure is in the past,"
        " expected 2026-11-24 or later (LED art. 5), got '2026-11-23'",
    ),
    (
        "within-the-ceiling",
        "ReturnEvent",
        {"erase_by": "2031-11-28"},
        {"erase_by": "2031-11-29"},
        "erase_by: the channel does not keep records for so long, expected 2031-11-28 or earlier (1830 days",
    ),
    (
        "new-names-no-targets",
        "ReturnEvent",
        {"targets": []},
        {"targets": [TARGET]},
        "targets: a new record must not name the records",
    ),
    (
        "rectify-names-targets",
        "ReturnEvent",
        {"action": "RECTIFY", "targets": [TARGET]},
        {"action": "RECTIFY"},
        "targets: RECTIFY must name the records that it acts on",
    ),
    (
        "order-names-targets",
        "ReturnEvent",
        {"action": "WITHDRAW", "targets": [TARGET], "body": ...},
        {"action": "WITHDRAW", "targets": [], "body": ...},
        "targets: WITHDRAW must name",
    ),
    (
        "order-says-nothing-about-a-person",
        "ReturnEvent",
        {"action": "ERASE", "targets": [TARGET], "body": {}},
        {"action": "ERASE", "targets": [TARGET]},
        "body: ERASE must not have a body, since it only names the records",
    ),
    (
        "targets-once",
        "ReturnEvent",
        {"action": "RECTIFY", "targets": [TARGET, TARGET | {"index": 4}]},
        {"action": "RECTIFY", "targets": [TARGET, TARGET]},
        "targets: the list names a record twice",
    ),
    (
        "h3-needs-a-note",
        "ReturnEvent",
        {"handling.codes": ["H3"], "body.handling_note": "Call the duty officer first."},
        {"handling.codes": ["H3"]},
        "body.handling_note: the note that explains the handling code H3 is missing",
    ),
    (
        "a-note-needs-h3",
        "ReturnEvent",
        {},
        {"body.handling_note": "Call the duty officer first."},
        "body.handling_note: the note is there, but the handling code H3 is missing",
    ),
    (
        "note-of-200-characters",
        "ReturnEvent",
        {"handling.codes": ["H3"], "body.handling_note": "x" * 200},
        {"handling.codes": ["H3"], "body.handling_note": "x" * 201},
        "body.handling_note: the value is not a handling note, expected 1 to 200 printable characters",
    ),
    (
        "purposes-of-the-log-are-for-the-log",
        "ReturnEvent",
        {"purpose": "CHILD_PROTECTION"},
        {"purpose": "SELF_MONITORING"},
        "purpose: this word is not allowed here, expected PREVENTION,",
    ),
]


@pytest.mark.parametrize(("record_type", "keeps"), [(r[1], r[2]) for r in RULES], ids=[r[0] for r in RULES])
def test_a_record_that_keeps_the_rule_is_taken(record_type: str, keeps: Changes) -> None:
    """A record that keeps a rule is read, and no rule is found broken when a peer receives it."""
    record = read(valid(record_type, keeps))
    schema = default_store().current(record_type)
    body = decode_body(encode_body(record, schema), schema)
    assert check_received(record_type, schema, record.terms, body, issued_on=TODAY, ceiling_days=1830) == ()


@pytest.mark.parametrize(
    ("record_type", "breaks", "words"), [(r[1], r[3], r[4]) for r in RULES], ids=[r[0] for r in RULES]
)
def test_a_record_that_breaks_the_rule_is_refused_in_words(
    record_type: str, breaks: Changes, words: str
) -> None:
    """A record that breaks one rule is refused with one problem, which names the field and says why."""
    found = problems(valid(record_type, breaks))
    assert len(found) == 1, found
    assert found[0].startswith(words)


def test_every_declared_rule_has_a_case() -> None:
    """No rule is declared in a schema file without a record here that breaks it."""
    declared = set()
    for path in (schemas_folder() / "records").rglob("*.avsc"):
        declared |= {rule["say"] for rule in json.loads(path.read_text()).get("rules", [])}
    found = {words for case in RULES for words in problems(valid(case[1], case[3]))}
    untested = {say for say in declared if not any(say in words for words in found)}
    # H2 is put on by from_json; test_h2_is_forced breaks it in what a peer sends.
    assert untested == {"an emergence report is not passed on without the provider's permission"}


@pytest.mark.parametrize("action", ["NEW", "WITHDRAW"])
def test_h2_is_forced(action: str) -> None:
    """An emergence report carries H2 whatever the clerk says, and one without it from a peer is reported."""
    changes: Changes = {"handling.codes": ["H0"], "action": action}
    if action != "NEW":
        changes |= {"targets": [TARGET], "body": ...}
    record = read(valid("EmergenceReport", changes))
    assert record.terms.handling.codes == ("H0", "H2")
    schema = default_store().current("EmergenceReport")
    bare = read(valid("ReturnEvent", {"handling.codes": ["H0"]}))
    if action == "NEW":
        terms = bare.terms
    else:
        withdrawn: Changes = {"action": action, "targets": [TARGET], "body": ..., "handling.codes": ["H0"]}
        terms = read(valid("ReturnEvent", withdrawn)).terms
    (problem,) = check_received("EmergenceReport", schema, terms, record.body, issued_on=TODAY)
    assert problem.startswith("handling.codes: an emergence report is not passed on without the provider's")


def test_all_problems_are_listed_at_once() -> None:
    """A clerk gets every problem of a record in one go, rules and values alike."""
    changes: Changes = {
        "erase_by": "2040-01-01",
        "body.stage": "arived",
        "body.subject.age_band": "CHILD",
        "body.subject.category": "SUSPECT",
        "body.to_place": "Aldoria",
    }
    paths = [problem.split(":")[0] for problem in problems(valid("ReturnEvent", changes))]
    assert paths == ["erase_by", "body.subject.category", "body.stage", "body.to_place"]


def test_a_rule_is_silent_about_a_value_that_is_wrong_by_itself() -> None:
    """A wrong value is one problem, not a second one for each rule that looks at it."""
    found = problems(
        valid("EmergenceReport", {"body.subject.category": "SUSPECT", "body.grounds": "serious"})
    )
    assert [problem.split(":")[0] for problem in found] == ["body.grounds"]


@pytest.mark.parametrize("days", [0, 219])
def test_rules_about_days_are_judged_on_the_day_of_issue(days: int) -> None:
    """A record that was within twelve months when it was issued stays right when it is read later."""
    record = read(valid("JusticeMeasure", {"body.measure": "ACQUITTAL", "erase_by": "2027-11-20"}))
    schema = default_store().current("JusticeMeasure")
    issued = date.fromordinal(TODAY.toordinal() + days)
    assert check_received("JusticeMeasure", schema, record.terms, record.body, issued_on=issued) == ()


# --- a record type is a file


SIGHTING: dict[str, Any] = {
    "type": "record",
    "name": "Sighting",
    "namespace": "ftf.records",
    "topic": "sightings",
    "fields": [
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "seen_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "place", "type": "string", "codes": "places"},
        {"name": "means", "type": "string", "codes": "means"},
        {"name": "sure", "type": "boolean"},
        {"name": "plate", "type": ["null", "bytes"], "default": None, "maxLength": 4},
    ],
    "rules": [
        {
            "id": "by-car",
            "if": {"means": ["CAR"], "sure": [True]},
            "then": {"plate": {"present": True}, "terms.purpose": {"notIn": ["CHILD_PROTECTION"]}},
            "say": "a car has a plate",
            "source": "a test",
        }
    ],
}


def test_adding_a_record_type_is_adding_a_file(tmp_path: Path) -> None:
    """A schema file in a folder, and a code list beside it, is a record type: checked, encoded, decoded."""
    (tmp_path / "sighting.avsc").write_text(json.dumps(SIGHTING))
    (tmp_path / "codes").mkdir()
    means = {
        "list": "means",
        "version": "1",
        "source": "a test",
        "codes": {"CAR": "a car", "FOOT": "on foot"},
    }
    (tmp_path / "codes" / "means.json").write_text(json.dumps(means))
    store = SchemaStore.load(schemas_folder() / "records", tmp_path)
    head = valid("ReturnEvent") | {"record_type": "Sighting"}
    body = {
        "ref": "6f9619ff-8b86-4011-b42d-00cf4fc964ff",
        "seen_at": "2026-11-20T10:00:00.25Z",
        "place": "XAA",
        "means": "CAR",
        "sure": True,
        "plate": "cafe",
    }
    record = from_json("Sighting", head | {"body": body}, store=store, today=TODAY)
    schema = store.current("Sighting")
    assert decode_body(encode_body(record, schema), schema) == record.body
    assert record.body["plate"] == b"\xca\xfe"
    assert check_received("Sighting", schema, record.terms, record.body, issued_on=TODAY) == ()
    wrong = body | {"means": "BOAT", "place": "nowhere"}
    with pytest.raises(RecordInvalid) as invalid:
        from_json("Sighting", head | {"body": wrong}, store=store, today=TODAY)
    assert [p.split(":")[0] for p in invalid.value.problems] == ["body.place", "body.means"]
    for plate in ("ca fe", "ca\tfe", "caf", "cafecafeca", "zz"):
        with pytest.raises(RecordInvalid, match=r"body\.plate: the value has the wrong form"):
            from_json("Sighting", head | {"body": body | {"plate": plate}}, store=store, today=TODAY)
    bare = body | {"plate": None}
    with pytest.raises(RecordInvalid, match=r"body.plate: a car has a plate, expected a value \(a test\)"):
        from_json("Sighting", head | {"body": bare}, store=store, today=TODAY)


def _schema(field: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "x"} | field], **more}


RULE = {"id": "r", "if": {}, "then": {"x": {"present": True}}, "say": "s", "source": "a test"}
COLOUR = {"type": {"type": "enum", "name": "Colour", "symbols": ["RED"]}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (_schema({"type": "string"}), "x would be free text"),
        (_schema({"type": "string", "freeText": True, "maxLength": 200}), "x would be free text"),
        (_schema({"type": {"type": "array", "items": "string"}}), "x would be free text"),
        (_schema({"type": "string", "codes": "colours"}), "the code list 'colours', which does not exist"),
        (_schema({"type": "string", "pattern": "("}), "x has no valid pattern"),
        (_schema({"type": "string", "patern": "a"}), "x declares 'patern', which nothing reads"),
        (_schema({"type": "int"}, ruls=[]), "R declares 'ruls', which nothing reads"),
        (_schema({"type": ["int", "null"]}), "x is a union other than"),
        (_schema({"type": "double"}), "the type 'double', which records do not use"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "a record type must be an Avro record"),
        (_schema({"type": "int"}, rules={"a": 1}), "are not a list"),
        (_schema({"type": "int"}, rules=["a"]), "needs id, if, then, say and source"),
        (_schema({"type": "int"}, rules=[RULE | {"then": {}}]), "needs id, if, then, say and source"),
        (
            _schema({"type": "int"}, rules=[RULE | {"then": {"y": {"present": True}}}]),
            "names 'y', which does not",
        ),
        (_schema({"type": "int"}, rules=[RULE | {"if": {"terms.colour": ["RED"]}}]), "which the terms lack"),
        (
            _schema({"type": "int"}, rules=[RULE | {"then": {"x": {"presnt": True}}}]),
            "which is not a requirement",
        ),
        (
            _schema(COLOUR, rules=[RULE | {"then": {"x": {"in": ["BLUE"]}}}]),
            "not all of them are symbols of 'Colour'",
        ),
        (_schema({"type": "int"}, rules=[RULE | {"then": {"x": {"pattern": "("}}}]), "no valid pattern"),
    ],
)
def test_a_schema_that_cannot_be_trusted_is_refused(schema: dict[str, Any], words: str) -> None:
    """A schema with a misspelt rule, or with a string that could hold a name, is refused."""
    with pytest.raises(UsageError) as error:
        compile_body(schema, lists=code_lists(), from_json=True)
    assert words in error.value.message


def _holds(then: dict[str, Any], value: dict[str, Any]) -> bool:
    fields = [{"name": name, "type": "string"} for name in ("x", "y")]
    rule = RULE | {"then": {"x": then}}
    found: list[tuple[str, str]] = []
    rules = compile_rules({"type": "record", "name": "R", "fields": fields, "rules": [rule]}, {})
    rules.check(value, Circumstances(terms={}, day=20_000), found)
    return not found


@pytest.mark.parametrize(
    ("then", "right", "wrong"),
    [
        ({"in": ["A", 1]}, "A", True),
        ({"in": [True]}, True, 1),
        ({"notIn": ["A"]}, "B", "A"),
        ({"present": False}, None, "A"),
        ({"contains": "A"}, ["A", "B"], ["B"]),
        ({"pattern": "[A-Z]+"}, "ABC", "ABC\n"),
        ({"withinDays": 5}, 20_005, 20_006),
        ({"notAfterToday": True}, "2024-10-05", "2024-10-07"),
        ({"notAfterToday": True}, "2024-10", "2024-11~"),
        ({"notBefore": "y"}, "2024", "2023"),
        ({"notBefore": "y"}, "2024-02-04~", "2024-02-03"),
    ],
)
def test_each_requirement_tells_right_from_wrong(then: dict[str, Any], right: object, wrong: object) -> None:
    """Each word of the rules' language means what its table says, at its edge."""
    assert _holds(then, {"x": right, "y": "2024-02-04"})
    assert not _holds(then, {"x": wrong, "y": "2024-02-04"})
    assert _holds(then, {"x": ABSENT})
