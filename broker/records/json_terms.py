"""The terms of a record as JSON: read with every problem in words, and written back.

`broker.records.term_rules` has the rules that hold between the terms, and says which of them apply here. This
module adds what only JSON can get wrong: words, dates, lists and unknown fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final, TypeVar

from broker.records.check import ABSENT, Problem
from broker.records.term_rules import (
    MAX_TARGETS,
    RECORD_PURPOSES,
    TARGET_INDEXES,
    TermRule,
    broken_retention,
    fits_action,
)
from broker.records.words import EPOCH, choice, field_name, iso_day, join_path, nearest, said
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Target, Tlp

__all__ = ["as_terms", "check_retention", "flat_terms", "parse_terms", "terms_to_json"]

MAX_RELEASABLE_TO = 128
"""Members of a channel."""

_TLP_LABELS: Final = {"AMBER+STRICT": Tlp.AMBER_STRICT}
"""TLP 2.0 writes a plus, which Avro symbols cannot carry; both spellings are read."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# Lower case only: one batch has one spelling, so two spellings cannot name one record twice.
_BATCH_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
# The form alone is checked here; whether the name is a member of the channel is RELEASED_TO_MEMBERS. This
# form is not that of AGENCY_NAME in broker.directory.party, which also allows a code of two characters.
_AUTHORITY = re.compile(r"[A-Z][A-Z0-9]{2,15}:[A-Za-z0-9][A-Za-z0-9.-]{0,47}", re.ASCII)
_Word = TypeVar("_Word", bound=StrEnum)


def flat_terms(terms: RecordTerms) -> dict[str, object]:
    """Return the terms by dotted path, as rules look at them."""
    # These keys are the paths that the rules of a schema may name; _TERM_PATHS in broker.records.rules lists
    # the same.
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
    """Return the terms that `parse_terms` found no problem with."""
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
    """Return the terms as `parse_terms` reads them; ``targets`` is left out where there are none."""
    handling = terms.handling
    tlp = "AMBER+STRICT" if handling.tlp is Tlp.AMBER_STRICT else handling.tlp.value
    shown: dict[str, Any] = {"action": terms.action.value}
    if terms.targets:
        shown["targets"] = [{"batch_id": t.batch_id.hex(), "index": t.index} for t in terms.targets]
    shown["handling"] = {
        "codes": [code.value for code in handling.codes],
        "tlp": tlp,
        "releasable_to": list(handling.releasable_to),
    }
    shown["purpose"] = terms.purpose.value
    shown["review_by"] = iso_day(terms.review_by)
    shown["erase_by"] = iso_day(terms.erase_by)
    return shown


def parse_terms(obj: Mapping[str, Any], problems: list[Problem], forced: Iterable[str]) -> dict[str, Any]:
    """Return the terms by dotted path; a part that is wrong is left out and added to the problems.

    ``forced`` are handling codes that the record type always carries; they are added when they are missing.
    """
    flat: dict[str, Any] = {
        "action": _word(Action, tuple(Action), obj.get("action", "NEW"), "action", problems),
        "purpose": _word(Purpose, RECORD_PURPOSES, obj.get("purpose"), "purpose", problems),
        "review_by": _day(obj.get("review_by"), "review_by", problems),
        "erase_by": _day(obj.get("erase_by"), "erase_by", problems),
    }
    # No defaults for purpose, dates and handling: the author of a record must decide each of them.
    flat |= _handling(obj.get("handling"), problems, forced)
    flat["targets"] = _targets(obj.get("targets"), flat["action"], problems)
    return {path: value for path, value in flat.items() if value is not ABSENT}


def check_retention(
    flat: Mapping[str, object], today: int, ceiling_days: int | None, problems: list[Problem]
) -> None:
    """Add a problem for each rule of retention that the terms break (LED art. 5).

    ``today`` is counted from 1970-01-01; ``ceiling_days`` is None where the channel is not known.
    """
    review = _as_day(flat.get("review_by"))
    erase = _as_day(flat.get("erase_by"))
    if erase is None:
        return
    for rule in broken_retention(review, erase, today, ceiling_days):
        # A review day in the past is left to broker.publish and broker.verify, which know the day of issue.
        if rule is TermRule.REVIEW_AFTER_ERASURE and review is not None:
            words = "the day of review is after the day of erasure"
            expected = f"{iso_day(erase)} or earlier (LED art. 5)"
            problems.append(("review_by", said(words, expected, iso_day(review))))
        elif rule is TermRule.ERASURE_IN_PAST:
            words = "the day of erasure is in the past"
            expected = f"{iso_day(today)} or later (LED art. 5)"
            problems.append(("erase_by", said(words, expected, iso_day(erase))))
        elif rule is TermRule.CHANNEL_CEILING and ceiling_days is not None:
            words = "the channel does not keep records for so long"
            expected = f"{iso_day(today + ceiling_days)} or earlier ({ceiling_days} days; LED art. 5)"
            problems.append(("erase_by", said(words, expected, iso_day(erase))))


def _as_day(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _wrong(path: str, words: str, expected: str, value: object, problems: list[Problem]) -> Any:
    """Report a wrong or missing part of the terms and return `ABSENT` in its place."""
    missing = f"the field is missing, expected {expected}"
    problems.append((path, missing if value is None else said(words, expected, value)))
    return ABSENT


def _word(
    kind: type[_Word], allowed: tuple[_Word, ...], value: object, path: str, problems: list[Problem]
) -> Any:
    # A member of a StrEnum is equal to its text, so a text from JSON is found among the members.
    if isinstance(value, str) and value in allowed:
        return kind(value)
    expected = choice(allowed) + nearest(value, allowed)
    return _wrong(path, "this word is not allowed here", expected, value, problems)


def _day(value: object, path: str, problems: list[Problem]) -> Any:
    # The pattern comes first: fromisoformat() also takes 20270501 and week dates.
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return (date.fromisoformat(value) - EPOCH).days
        except ValueError:
            pass
    expected = "a day such as 2027-05-01 (ISO 8601)"
    return _wrong(path, "the value is not a date", expected, value, problems)


def _handling(value: object, problems: list[Problem], forced: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        expected = "an object with codes, tlp and releasable_to"
        _wrong("handling", "the value is not an object", expected, value, problems)
        return {}
    _check_fields(value, ("codes", "tlp", "releasable_to"), "handling", problems)
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
    # Only a list of right codes is looked at for repeats: other values may have no hash.
    if len(problems) == before and len(set(given)) < len(given):
        problems.append(("handling.codes", said("the list names a code twice", "each code once", value)))
    if len(problems) > before:
        return ABSENT
    # Sorted, so that equal terms are equal bytes and a manifest holds them once.
    return tuple(sorted({*codes, *(HandlingCode(code) for code in forced)}))


def _releasable_to(value: object, problems: list[Problem]) -> Any:
    path = "handling.releasable_to"
    before = len(problems)
    given = _list(value, MAX_RELEASABLE_TO, path, "authorities", problems)
    for index, authority in enumerate(given):
        if not isinstance(authority, str) or not _AUTHORITY.fullmatch(authority):
            words = said("the value is not an authority", "an authority such as XAA:police", authority)
            problems.append((f"{path}[{index}]", words))
    if len(problems) == before and len(set(given)) < len(given):
        words = said("the list names an authority twice", "each authority once", value)
        problems.append((path, words))
    return tuple(sorted(given)) if len(problems) == before else ABSENT


def _targets(value: object, action: object, problems: list[Problem]) -> Any:
    given = [] if value is None else _list(value, MAX_TARGETS, "targets", "records", problems)
    # A wrong action, and targets that are not a list, are reported already.
    if isinstance(action, Action) and not fits_action(action, len(given)):
        _report_count(action, given, value, problems)
    before = len(problems)
    targets = [_target(target, f"targets[{index}]", problems) for index, target in enumerate(given)]
    if len(problems) == before and len({(t.batch_id, t.index) for t in targets}) < len(targets):
        problems.append(("targets", said("the list names a record twice", "each record once", given)))
    return tuple(targets) if len(problems) == before else ABSENT


def _report_count(action: Action, given: list[Any], value: object, problems: list[Problem]) -> None:
    if action is Action.NEW:
        words = "a new record must not name the records that it acts on"
        problems.append(("targets", said(words, "no targets, or another action than NEW", given)))
    elif value is None or value == []:
        words = f"{action} must name the records that it acts on"
        problems.append(("targets", said(words, "at least one batch_id and index", value)))


def _target(value: object, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        expected = "an object with batch_id and index"
        problems.append((path, said("the value is not an object", expected, value)))
        return ABSENT
    before = len(problems)
    _check_fields(value, ("batch_id", "index"), path, problems)
    batch_id = value.get("batch_id")
    index = value.get("index")
    if not isinstance(batch_id, str) or not _BATCH_ID.fullmatch(batch_id):
        words = said("the value is not the id of a batch", "64 hexadecimal digits", batch_id)
        problems.append((f"{path}.batch_id", words))
    if type(index) is not int or index not in TARGET_INDEXES:
        expected = f"{TARGET_INDEXES[0]} to {TARGET_INDEXES[-1]}"
        problems.append((f"{path}.index", said("the value is not a place in a batch", expected, index)))
    if len(problems) > before or not isinstance(batch_id, str) or not isinstance(index, int):
        return ABSENT
    return Target(batch_id=bytes.fromhex(batch_id), index=index)


def _list(value: object, most: int, path: str, items: str, problems: list[Problem]) -> list[Any]:
    if isinstance(value, list) and len(value) <= most:
        return value
    words = "the list is too long" if isinstance(value, list) else "the value is not a list"
    problems.append((path, said(words, f"a list of at most {most} {items}", value)))
    return []


def _check_fields(
    value: Mapping[Any, object], known: tuple[str, ...], path: str, problems: list[Problem]
) -> None:
    # Sixteen, as for unknown fields of a body: an object of a million unknown names gets no million problems.
    for name in [name for name in value if name not in known][:16]:
        words = f"{path} has no field of this name{nearest(name, known)}, expected it to be left out"
        problems.append((join_path(path, field_name(name)), words))
