"""What a replay found: as a value, as the JSON that operators script against, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.audit.causes import Known, Reported
from broker.errors import UsageError
from broker.log.protocol import Log, Partition, physical
from broker.verify.violations import Kind, Place

__all__ = ["Progress", "ReplayReport", "known_from_json", "place_to_json", "to_json", "violation_to_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a replay is, in messages; ``now`` is what it reads."""

    done: int
    total: int
    now: Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay found; ``verified`` says that there is no violation but known ones.

    ``access_unread`` are channels whose access log is sealed to others: collections and decisions in
    them are not checked. ``records`` and ``manifests`` stand and verify, ``access_entries`` are
    different requests that have an entry; ``uncollected`` batches are newer than all that the KAS has
    listed; ``opaque`` messages are of epochs whose keys the auditor does not hold; ``receipts`` were
    compared with the log.
    """

    verified: bool
    channels: tuple[str, ...]
    access_unread: tuple[str, ...]
    records: int
    manifests: int
    access_entries: int
    collections: int
    denials: int
    erasures: int
    uncollected: int
    opaque: int
    receipts: int
    receipts_not_compared: int
    messages: int
    directory_size: int
    violations: tuple[Reported, ...]
    violation_count: int
    by_kind: Mapping[Kind, int]


def to_json(report: ReplayReport, log: Log) -> dict[str, Any]:
    """The report: ``verified``, the counts, and the first 1,000 violations, topics as the log names them."""
    return {
        "verified": report.verified,
        "channels": list(report.channels),
        "access_unread": list(report.access_unread),
        "records": report.records,
        "manifests": report.manifests,
        "access_entries": report.access_entries,
        "collections": report.collections,
        "denials": report.denials,
        "erasures": report.erasures,
        "uncollected": report.uncollected,
        "opaque": report.opaque,
        "receipts": report.receipts,
        "receipts_not_compared": report.receipts_not_compared,
        "messages": report.messages,
        "directory_size": report.directory_size,
        "violations": [violation_to_json(one, log) for one in report.violations],
        "violation_count": report.violation_count,
        "violations_by_kind": {str(kind): count for kind, count in sorted(report.by_kind.items())},
    }


def violation_to_json(reported: Reported, log: Log) -> dict[str, Any]:
    """One violation; ``caused_by`` is the place of the one that it follows from, or null."""
    one = reported.violation
    shown: dict[str, Any] = {
        "kind": str(one.kind),
        **place_to_json(one.place, log),
        "detail": one.detail,
        "count": one.count,
        "caused_by": None if one.caused_by is None else place_to_json(one.caused_by, log),
    }
    return shown | {"known": True} if reported.known else shown


def place_to_json(place: Place, log: Log) -> dict[str, Any]:
    """A place by the name that the log's own tools show."""
    return {"topic": physical(log, place.topic), "partition": place.partition, "offset": place.offset}


def known_from_json(value: object, log: Log) -> tuple[Known, ...]:
    """The violations in a list, or in an earlier report; UsageError for what is neither.

    Each has ``kind``, ``topic``, ``partition``, ``offset``, and may have ``count``.
    """
    listed = value.get("violations") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise UsageError("no list of violations", hint="give the output of: audit replay --json")
    return tuple(_known(one, place, log) for place, one in enumerate(listed))


def _known(value: object, place: int, log: Log) -> Known:
    where = f"known violation {place}"
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no object")
    kind, topic = value.get("kind"), value.get("topic")
    partition, offset, count = value.get("partition"), value.get("offset"), value.get("count")
    prefix = physical(log, "")
    if kind not in list(Kind):
        raise UsageError(f"{where}: there is no kind '{str(kind)[:60]}'")
    if not isinstance(topic, str) or not topic.startswith(prefix):
        raise UsageError(f"{where}: topic '{str(topic)[:100]}' does not begin with '{prefix}'")
    if type(partition) is not int or type(offset) is not int or not (count is None or type(count) is int):
        raise UsageError(f"{where}: partition, offset and count are whole numbers")
    at = Place(topic.removeprefix(prefix), partition, offset)
    return Known(kind=Kind(kind), place=at, count=count)
