"""The terms of a record as JSON says them, and the rules that hold for the terms of every record.

LED art. 5: every record has a day on which the need for it is reviewed and one on which it is erased.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from broker.records.rules import ABSENT, EPOCH, Problem
from broker.records.words import choice, field_name, join_path, nearest, said
from broker.wire.terms import (
    LOG_PURPOSES,
    Action,
    Handling,
    HandlingCode,
    Purpose,
    RecordTerms,
    Target,
    Tlp,
)

__all__ = ["as_terms", "check_retention", "flat_terms", "parse_terms", "terms_to_json"]

MAX_TARGETS = 256
MAX_RELEASABLE_TO = 128
"""Members of a channel."""

RECORD_PURPOSES: Final = tuple(p for p in Purpose if p not in LOG_PURPOSES)
_TLP_LABELS: Final = {"AMBER+STRICT": Tlp.AMBER_STRICT}
"""TLP 2.0 writes a plus, which Avro symbols cannot carry; both spellings are read."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_BATCH_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_AUTHORITY = re.compile(r"[A-Z][A-Z0-9]{2,15}:[A-Za-z0-9][A-Za-z0-9.-]{0,47}", re.ASCII)
_Word = TypeVar("_Word", bound=StrEnum)


def flat_terms(terms: RecordTerms) -> dict[str, object]:
    """The terms by dotted path, as rules look at them."""
    return {
        "action": terms.action,
        "targets": terms.targets,
        "handling.codes": terms.handling.codes,
        "handling.tlp": terms.handling.tlp,
        "handling.releasable_to": terms.handling.releasable_to,
        "purpose": terms.purpose,
        "review_by": terms.review_by,
        "erase_by": terms.erase_by,
    }


def as_terms(flat: Mapping[str, Any]) -> RecordTerms:
    """The terms whose every part was found to be right."""
    handling = Handling(
        codes=flat["handling.codes"], tlp=flat["handling.tlp"], releasable_to=flat["handling.releasable_to"]
    )
    return RecordTerms(
        action=flat["action"],
        targets=flat["targets"],
        handling=handling,
        purpose=flat["purpose"],
        review_by=flat["review_by"],
        erase_by=flat["erase_by"],
    )


def terms_to_json(terms: RecordTerms) -> dict[str, Any]:
    """The terms as `parse_terms` reads them."""
    handling = terms.handling
    tlp = "AMBER+STRICT" if handling.tlp is Tlp.AMBER_STRICT else handling.tlp.value
    said_terms: dict[str, Any] = {"action": terms.action.value}
    if terms.targets:
        said_terms["targets"] = [{"batch_id": t.batch_id.hex(), "index": t.index} for t in terms.targets]
    said_terms["handling"] = {
        "codes": [code.value for code in handling.codes],
        "tlp": tlp,
        "releasable_to": list(handling.releasable_to),
    }
    dates = {"review_by": _iso(terms.review_by), "erase_by": _iso(terms.erase_by)}
    return said_terms | {"purpose": terms.purpose.value} | dates


def parse_terms(obj: Mapping[str, Any], problems: list[Problem], forced: Iterable[str]) -> dict[str, Any]:
    """The terms by dotted path; what is wrong is left out and added to the problems.

    ``forced`` are handling codes that the record type always carries; they are put on when missing.
    """
    flat: dict[str, Any] = {
        "action": _word(Action, tuple(Action), obj.get("action", "NEW"), "action", problems),
        "purpose": _word(Purpose, RECORD_PURPOSES, obj.get("purpose"), "purpose", problems),
        "review_by": _day(obj.get("review_by"), "review_by", problems),
        "erase_by": _day(obj.get("erase_by"), "erase_by", problems),
    }
    flat |= _handling(obj.get("handling"), problems, forced)
    flat["targets"] = _targets(obj.get("targets"), flat["action"], problems)
    return {path: value for path, value in flat.items() if value is not ABSENT}


def check_retention(
    flat: Mapping[str, object], today: int, ceiling_days: int | None, problems: list[Problem]
) -> None:
    """Everything ends, in order and within what the channel allows (LED art. 5). Days since 1970."""
    review, erase = flat.get("review_by"), flat.get("erase_by")
    if not isinstance(erase, int):
        return
    if isinstance(review, int) and review > erase:
        words = "is after the day of erasure"
        problems.append(("review_by", said(words, f"at most {_iso(erase)} (LED art. 5)", _iso(review))))
    if erase < today:
        problems.append(
            ("erase_by", said("is in the past", f"{_iso(today)} or later (LED art. 5)", _iso(erase)))
        )
    if ceiling_days is not None and erase > today + ceiling_days:
        latest = f"at most {_iso(today + ceiling_days)} ({ceiling_days} days; LED art. 5)"
        problems.append(("erase_by", said("is longer than the channel keeps records", latest, _iso(erase))))


def _iso(day: int) -> str:
    try:
        return (EPOCH + timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day {day}"


def _word(
    kind: type[_Word], allowed: tuple[_Word, ...], value: object, path: str, problems: list[Problem]
) -> Any:
    if isinstance(value, str) and value in allowed:
        return kind(value)
    expected = choice(allowed) + nearest(value, allowed)
    problems.append((path, said("is none of the words allowed here", expected, value)))
    return ABSENT


def _day(value: object, path: str, problems: list[Problem]) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return (date.fromisoformat(value) - EPOCH).days
        except ValueError:
            pass
    problems.append((path, said("is no date", "a day such as 2027-05-01 (ISO 8601)", value)))
    return ABSENT


def _handling(value: object, problems: list[Problem], forced: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(("handling", said("is no object", "codes, tlp and releasable_to", value)))
        return {}
    _only(value, ("codes", "tlp", "releasable_to"), "handling", problems)
    tlp = value.get("tlp")
    label = _TLP_LABELS.get(tlp, tlp) if isinstance(tlp, str) else tlp
    return {
        "handling.codes": _codes(value.get("codes", []), problems, forced),
        "handling.tlp": _word(Tlp, tuple(Tlp), label, "handling.tlp", problems),
        "handling.releasable_to": _releasable_to(value.get("releasable_to", []), problems),
    }


def _codes(value: object, problems: list[Problem], forced: Iterable[str]) -> Any:
    before = len(problems)
    given = _list(value, len(HandlingCode), "handling.codes", "handling codes", problems)
    codes = [
        _word(HandlingCode, tuple(HandlingCode), code, f"handling.codes[{i}]", problems)
        for i, code in enumerate(given)
    ]
    if len(set(given)) < len(given) if len(problems) == before else False:
        problems.append(("handling.codes", said("names something twice", "each code once", value)))
    if len(problems) > before:
        return ABSENT
    # In the order of the codes, so that equal terms are equal bytes and a manifest says them once.
    return tuple(sorted({*codes, *(HandlingCode(code) for code in forced)}))


def _releasable_to(value: object, problems: list[Problem]) -> Any:
    before = len(problems)
    given = _list(value, MAX_RELEASABLE_TO, "handling.releasable_to", "authorities", problems)
    for index, authority in enumerate(given):
        if not isinstance(authority, str) or not _AUTHORITY.fullmatch(authority):
            path = f"handling.releasable_to[{index}]"
            problems.append((path, said("is no authority", "an authority such as XAA:police", authority)))
    if len(problems) == before and len(set(given)) < len(given):
        problems.append(
            ("handling.releasable_to", said("names something twice", "each authority once", value))
        )
    return tuple(sorted(given)) if len(problems) == before else ABSENT


def _targets(value: object, action: object, problems: list[Problem]) -> Any:
    given = [] if value is None else _list(value, MAX_TARGETS, "targets", "records", problems)
    if action is Action.NEW and given:
        words = "are named by a record that is new"
        problems.append(("targets", said(words, "none, or another action than NEW", given)))
    if (
        isinstance(action, Action)
        and action is not Action.NEW
        and not given
        and not isinstance(value, dict | str)
    ):
        words = f"are missing: {action} must name the records that it acts on"
        problems.append(("targets", said(words, "at least one batch_id and index", value)))
    before = len(problems)
    targets = [_target(target, f"targets[{index}]", problems) for index, target in enumerate(given)]
    if len(problems) == before and len({(t.batch_id, t.index) for t in targets}) < len(targets):
        problems.append(("targets", said("name something twice", "each record once", given)))
    return tuple(targets) if len(problems) == before else ABSENT


def _target(value: object, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        problems.append((path, said("is no object", "batch_id and index", value)))
        return ABSENT
    before = len(problems)
    _only(value, ("batch_id", "index"), path, problems)
    batch_id, index = value.get("batch_id"), value.get("index")
    if not isinstance(batch_id, str) or not _BATCH_ID.fullmatch(batch_id):
        problems.append((f"{path}.batch_id", said("is no batch", "64 hexadecimal digits", batch_id)))
    if type(index) is not int or not 0 <= index < MAX_TARGETS:
        problems.append((f"{path}.index", said("is no place in a batch", f"0 to {MAX_TARGETS - 1}", index)))
    if len(problems) > before or not isinstance(batch_id, str) or not isinstance(index, int):
        return ABSENT
    return Target(batch_id=bytes.fromhex(batch_id), index=index)


def _list(value: object, most: int, path: str, what: str, problems: list[Problem]) -> list[Any]:
    if isinstance(value, list) and len(value) <= most:
        return value
    problems.append((path, said("is no list of the length allowed", f"at most {most} {what}", value)))
    return []


def _only(value: Mapping[Any, object], known: tuple[str, ...], path: str, problems: list[Problem]) -> None:
    for name in [name for name in value if name not in known][:16]:
        words = f"is no field of {path}{nearest(name, known)}, expected it to be left out"
        problems.append((join_path(path, field_name(name)), words))
