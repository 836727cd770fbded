"""Delivered records for people, as a short block and as a full list, and for programs as JSON.

What a reader must not overlook comes first: that a measure is not final, that the person is a child, that
a statement is an assessment. Then follow who, what, how sure, on whose word, and for how long. This works
for every record type: a field that this module does not know is shown under its own name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from broker.records.record import Record, to_json
from broker.show.meanings import (
    GRADES_OF_INFORMATION,
    GRADES_OF_SOURCES,
    HANDLING,
    PURPOSES,
    TLP,
    USE_LIMITS,
)
from broker.show.text import counted, day_text, instant_json, printable, time_text
from broker.subscribe.delivery import Delivered
from broker.wire.terms import Action, RecordTerms, Tlp

__all__ = ["RecordBlock", "Row", "delivered_json", "record_block", "record_rows"]

Row = tuple[str, str]
"""A name and its value, in words."""

_COMMON = ("subject", "evaluation", "legal_basis", "use_limits", "external_refs", "handling_note")
"""Fields of a body that every record type may have; they are shown in their own way."""

_HEADLINE = ("stage", "measure", "milestone", "trigger")
"""Fields of a body that say in one word what happened; each record type has one of them."""

_ORDERS = {
    Action.RECTIFY: "RECTIFIES",
    Action.RESTRICT: "RESTRICTS",
    Action.WITHDRAW: "WITHDRAWS",
    Action.ERASE: "ORDERS ERASURE OF",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBlock:
    """A record as a short block of a feed: a title line, and rows below it."""

    record_type: str
    headline: str
    """What happened, in one word; empty for an order, which has no body."""
    warnings: tuple[str, ...]
    """What a reader must not overlook, except what the headline says already."""
    rows: tuple[Row, ...]


def _warnings(record: Record) -> Iterator[str]:
    """Yield the things that a reader must not overlook, the weightiest first."""
    # The order is that of weight: first what takes a record back or clears a person, then doubts, then care.
    terms = record.terms
    body = record.body
    if terms.action is not Action.NEW:
        yield f"{_ORDERS[terms.action]} {counted(len(terms.targets), 'EARLIER RECORD').upper()}"
    measure = body.get("measure")
    if measure in ("ACQUITTAL", "DISCONTINUED"):
        yield str(measure)
    if body.get("status") == "OVERTURNED":
        yield "OVERTURNED"
    if body.get("final") is False:
        yield "NOT FINAL"
    if body.get("stage") == "LAPSED":
        yield "LAPSED: AN EARLIER SUSPICION IS CLOSED"
    if measure == "NOTICE":
        yield "A NOTICE IS NO WARRANT"
    if _part(body, "evaluation").get("basis") == "ASSESSMENT":
        yield "ASSESSMENT, NOT FACT"
    match _part(body, "subject").get("age_band"):
        case "CHILD":
            yield "CHILD"
        # Where the age is in doubt, the rules for children apply (broker.records.rules).
        case "UNKNOWN":
            yield "AGE UNKNOWN: TREATED AS A CHILD"


def record_block(item: Delivered) -> RecordBlock:
    """Return a record as a short block."""
    body = _body(item.record)
    # The first field that exists is taken, and an order has none of them.
    headline = next((str(body[name]) for name in _HEADLINE if name in body), "")
    return RecordBlock(
        record_type=item.record.record_type,
        headline=headline,
        warnings=tuple(warning for warning in _warnings(item.record) if warning != headline),
        rows=tuple(_short_rows(item, body)),
    )


def record_rows(item: Delivered) -> list[Row]:
    """Return everything that is known of a record, with its codes explained in words."""
    record = item.record
    terms = record.terms
    body = _body(record)
    rows = [("record", str(UUID(bytes=record.record_id))), ("type", record.record_type)]
    rows += [("attention", warning) for warning in _warnings(record)]
    rows.append(("purpose", f"{terms.purpose}: {PURPOSES[terms.purpose]}"))
    rows.append(("handling", f"TLP:{_tlp(terms.handling.tlp)}: {TLP[terms.handling.tlp]}"))
    rows += [("handling", f"{code}: {HANDLING[code]}") for code in terms.handling.codes]
    if terms.handling.releasable_to:
        rows.append(("handling", f"released to {', '.join(terms.handling.releasable_to)} only"))
    if "handling_note" in body:
        rows.append(("note", printable(str(body["handling_note"]))))
    rows += [("acts on", f"{target.batch_id.hex()} index {target.index}") for target in terms.targets]
    review = day_text(terms.review_by)
    rows.append(("retention", f"review by {review}, erased on {day_text(terms.erase_by)} (LED art. 5)"))
    rows += _explained_rows(body)
    rows += [
        ("issued by", item.issuer),
        ("issued at", time_text(item.issued_at)),
        ("batch", f"{item.batch_id.hex()} index {item.index}"),
        ("place", f"{item.place.topic}/{item.place.partition} at offset {item.place.offset}"),
    ]
    return rows


def delivered_json(item: Delivered, channel: str) -> dict[str, object]:
    """Return a record as it would be published, with where it comes from, for a program."""
    return {
        "record": to_json(item.record),
        "issuer": item.issuer,
        "issued_at": instant_json(item.issued_at),
        "channel": channel,
        "topic": item.place.topic,
        "partition": item.place.partition,
        "offset": item.place.offset,
        "batch_id": item.batch_id.hex(),
        "index": item.index,
        "receipt": item.receipt.hex(),
        "attention": list(_warnings(item.record)),
    }


def _body(record: Record) -> Mapping[str, Any]:
    # The body as JSON has codes and dates as text, which the record itself does not; an order has no body.
    body: Mapping[str, Any] = to_json(record).get("body", {})
    return body


def _short_rows(item: Delivered, body: Mapping[str, Any]) -> Iterator[Row]:
    terms = item.record.terms
    if subject := _part(body, "subject"):
        yield "subject", _subject(subject)
    for target in terms.targets:
        yield "acts on", f"{target.batch_id.hex()} index {target.index}"
    fields = [f"{_words(name)} {_value(value)}" for name, value in _own(body) if name not in _HEADLINE]
    if fields:
        yield "says", ", ".join(fields)
    if evaluation := _part(body, "evaluation"):
        yield (
            "judged",
            f"{evaluation['basis']}, source {evaluation['source']}, information {evaluation['information']}",
        )
    yield "handling", f"{_handling(terms)}; for {terms.purpose}"
    if "handling_note" in body:
        yield "note", printable(str(body["handling_note"]))
    place = f"{item.place.topic}/{item.place.partition}@{item.place.offset}#{item.index}"
    yield "from", f"{item.issuer}, {time_text(item.issued_at)}, {place}, id {UUID(bytes=item.record_id)}"
    yield "kept", f"review by {day_text(terms.review_by)}, erased on {day_text(terms.erase_by)}"


def _handling(terms: RecordTerms) -> str:
    """Return the TLP label, the handling codes, and the agencies to which the record is restricted."""
    parts = [f"TLP:{_tlp(terms.handling.tlp)}", *(code.value for code in terms.handling.codes)]
    if terms.handling.releasable_to:
        parts.append(f"only {', '.join(terms.handling.releasable_to)}")
    return " · ".join(parts)


def _explained_rows(body: Mapping[str, Any]) -> Iterator[Row]:
    if subject := _part(body, "subject"):
        yield "subject", _subject(subject)
    for name, value in _own(body):
        yield _words(name), _value(value)
    if evaluation := _part(body, "evaluation"):
        source = str(evaluation["source"])
        information = int(evaluation["information"])
        is_fact = evaluation["basis"] == "FACT"
        yield "basis", "FACT" if is_fact else "ASSESSMENT: somebody's judgment, not a fact (LED art. 7)"
        yield "source", f"{source} = {GRADES_OF_SOURCES.get(source, 'unknown')}"
        yield "information", f"{information} = {GRADES_OF_INFORMATION.get(information, 'unknown')}"
    if basis := _part(body, "legal_basis"):
        yield "legal basis", f"{_words(str(basis['kind']).lower())}: {basis['citation']}"
    # A limit that this version does not know is shown under its code: a reader must see that there is a
    # limit.
    for limit in body.get("use_limits", ()):
        yield "use limit", USE_LIMITS.get(str(limit)) or _words(str(limit).lower())
    for ref in body.get("external_refs", ()):
        yield "reference", f"{ref['scheme']} {ref['value']}"


def _own(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the fields that only this record type has, without those that say nothing."""
    return ((name, value) for name, value in body.items() if name not in _COMMON and value not in ([], None))


def _subject(subject: Mapping[str, Any]) -> str:
    words = (str(subject[name]) for name in ("category", "age_band", "sex") if name in subject)
    return f"{subject['ref']} ({', '.join(words)})"


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    # A record type of tomorrow may use this name for another kind of field; it is then not shown in this
    # special way.
    return part if isinstance(part, Mapping) else {}


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_value(element) for element in value)
        case dict():
            return f"({', '.join(f'{_words(name)} {_value(field)}' for name, field in value.items())})"
    return printable(str(value))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _tlp(tlp: Tlp) -> str:
    # Avro symbols cannot carry the "+" of the label.
    return "AMBER+STRICT" if tlp is Tlp.AMBER_STRICT else tlp.value
