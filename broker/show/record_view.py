"""A record for people: what must not be overlooked first, then who, what, how sure, from whom, how long.

Whatever its type: what the table of warnings does not know is shown by the fields' own names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.records.record import Record, to_json
from broker.show.meanings import (
    GRADES_OF_INFORMATION,
    GRADES_OF_SOURCES,
    HANDLING,
    PURPOSES,
    TLP,
    USE_LIMITS,
    counted,
    printable,
)
from broker.show.text import day_text, time_text
from broker.subscribe.delivery import Delivered
from broker.wire.terms import Action, RecordTerms, Tlp

__all__ = ["delivered_json", "full", "handling_line", "instant_json", "print_block", "warnings"]

_COMMON = ("subject", "evaluation", "legal_basis", "use_limits", "external_refs", "handling_note")
_HEADLINE = ("stage", "measure", "milestone", "trigger")
_ORDERS = {
    Action.RECTIFY: "RECTIFIES",
    Action.RESTRICT: "RESTRICTS",
    Action.WITHDRAW: "WITHDRAWS",
    Action.ERASE: "ORDERS ERASURE OF",
}
_WIDTH = 11


def warnings(record: Record) -> tuple[str, ...]:
    """What a reader must not overlook, the weightiest first."""
    return tuple(_warnings(record))


def _warnings(record: Record) -> Iterator[str]:
    terms, body = record.terms, record.body
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
        case "UNKNOWN":
            yield "AGE UNKNOWN: TREATED AS A CHILD"


def handling_line(terms: RecordTerms) -> str:
    """TLP label, handling codes and who alone may have it, on one line."""
    parts = [f"TLP:{_tlp(terms.handling.tlp)}", *(code.value for code in terms.handling.codes)]
    if terms.handling.releasable_to:
        parts.append(f"only {', '.join(terms.handling.releasable_to)}")
    return " · ".join(parts)


def print_block(item: Delivered, console: Console) -> None:
    """A record as a tidy block of a feed."""
    record = item.record
    said = to_json(record)
    body: Mapping[str, Any] = said.get("body", {})
    console.print(_title(record, body))
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1, 0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in _short(item, body):
            grid.add_row(name, Text(value))
        console.print(grid)
    else:
        for name, value in _short(item, body):
            console.print(Text(f"  {name.ljust(_WIDTH)}{value}"))
    console.print()


def full(item: Delivered) -> list[tuple[str, str]]:
    """A record with everything that is known of it, explained in words, as names and values."""
    record, terms = item.record, item.record.terms
    body: Mapping[str, Any] = to_json(record).get("body", {})
    pairs = [("record", str(UUID(bytes=record.record_id))), ("type", record.record_type)]
    pairs += [("attention", one) for one in warnings(record)]
    pairs += [("purpose", f"{terms.purpose}: {PURPOSES[terms.purpose]}")]
    pairs += [("handling", f"TLP:{_tlp(terms.handling.tlp)}: {TLP[terms.handling.tlp]}")]
    pairs += [("handling", f"{code}: {HANDLING[code]}") for code in terms.handling.codes]
    if terms.handling.releasable_to:
        pairs.append(("handling", f"released to {', '.join(terms.handling.releasable_to)} only"))
    if "handling_note" in body:
        pairs.append(("note", printable(str(body["handling_note"]))))
    pairs += [("acts on", f"{one.batch_id.hex()} index {one.index}") for one in terms.targets]
    pairs += [
        (
            "retention",
            f"review by {day_text(terms.review_by)}, erased on {day_text(terms.erase_by)} (LED art. 5)",
        )
    ]
    pairs += list(_explained(body))
    pairs += [
        ("issued by", item.issuer),
        ("issued at", time_text(item.issued_at)),
        ("batch", f"{item.batch_id.hex()} index {item.index}"),
        ("place", f"{item.place.topic}/{item.place.partition} at offset {item.place.offset}"),
    ]
    return pairs


def delivered_json(item: Delivered, channel: str) -> dict[str, object]:
    """A record for a program: as it would be published, and where it comes from."""
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
        "attention": list(warnings(item.record)),
    }


def _title(record: Record, body: Mapping[str, Any]) -> Text:
    headline = next((str(body[name]) for name in _HEADLINE if name in body), "")
    title = Text.assemble((record.record_type, "bold"), "  ", headline)
    for one in warnings(record):
        if one != headline:
            title.append("  ")
            title.append(f"[{one}]", style="bold yellow" if one != "CHILD" else "bold magenta")
    return title


def _short(item: Delivered, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    terms = item.record.terms
    if subject := _part(body, "subject"):
        yield "subject", _subject(subject)
    for target in terms.targets:
        yield "acts on", f"{target.batch_id.hex()} index {target.index}"
    own = ", ".join(f"{_words(name)} {_value(value)}" for name, value in _own(body) if name not in _HEADLINE)
    if own:
        yield "says", own
    if evaluation := _part(body, "evaluation"):
        yield (
            "judged",
            f"{evaluation['basis']}, source {evaluation['source']}, information {evaluation['information']}",
        )
    yield "handling", f"{handling_line(terms)}; for {terms.purpose}"
    if "handling_note" in body:
        yield "note", printable(str(body["handling_note"]))
    place = f"{item.place.topic}/{item.place.partition}@{item.place.offset}#{item.index}"
    yield "from", f"{item.issuer}, {time_text(item.issued_at)}, {place}, id {UUID(bytes=item.record_id)}"
    yield "kept", f"review by {day_text(terms.review_by)}, erased on {day_text(terms.erase_by)}"


def _explained(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if subject := _part(body, "subject"):
        yield "subject", _subject(subject)
    for name, value in _own(body):
        yield _words(name), _value(value)
    if evaluation := _part(body, "evaluation"):
        source, information = str(evaluation["source"]), int(evaluation["information"])
        is_fact = evaluation["basis"] == "FACT"
        yield "basis", "FACT" if is_fact else "ASSESSMENT: somebody's judgment, not a fact (LED art. 7)"
        yield "source", f"{source} = {GRADES_OF_SOURCES.get(source, 'unknown')}"
        yield "information", f"{information} = {GRADES_OF_INFORMATION.get(information, 'unknown')}"
    if basis := _part(body, "legal_basis"):
        yield "legal basis", f"{_words(str(basis['kind']).lower())}: {basis['citation']}"
    for limit in body.get("use_limits", ()):
        yield "use limit", USE_LIMITS.get(str(limit)) or _words(str(limit).lower())
    for ref in body.get("external_refs", ()):
        yield "reference", f"{ref['scheme']} {ref['value']}"


def _own(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that its type adds to what every record says."""
    return ((name, value) for name, value in body.items() if name not in _COMMON and value not in ([], None))


def _subject(subject: Mapping[str, Any]) -> str:
    words = (str(subject[name]) for name in ("category", "age_band", "sex") if name in subject)
    return f"{subject['ref']} ({', '.join(words)})"


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    return part if isinstance(part, Mapping) else {}


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_value(one) for one in value)
        case dict():
            return f"({', '.join(f'{_words(name)} {_value(one)}' for name, one in value.items())})"
    return printable(str(value))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _tlp(tlp: Tlp) -> str:
    return "AMBER+STRICT" if tlp is Tlp.AMBER_STRICT else tlp.value


def instant_json(micros: int) -> str | int:
    """An instant in RFC 3339; as a number where it is no date."""
    try:
        moment = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
    except (ValueError, OverflowError, OSError):  # a signed statement may say any number
        return micros
    return moment.isoformat().replace("+00:00", "Z")
