"""What a replay found: as a value, and as the JSON that operators script against.

An operator who has dealt with violations gives an earlier report back: ``known_from_json`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.audit.causes import Known, Reported
from broker.audit.channel_trees import BoundAt
from broker.audit.stale import StaleBatch
from broker.errors import UsageError
from broker.log.protocol import Log, Partition, physical
from broker.verify.violations import Kind, Place

__all__ = [
    "MAX_REPEATED",
    "Counts",
    "Progress",
    "ReplayReport",
    "known_from_json",
    "place_to_json",
    "to_json",
    "violation_to_json",
]


MAX_REPEATED = 1000
"""The most repeats whose places are kept; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a replay is, in messages; ``now`` is the partition that it reads."""

    done: int
    total: int
    now: Partition


@dataclass(slots=True)
class Counts:
    """What a replay has counted; the checks of one replay add to one object."""

    records: int = 0
    """Records in batches that stand and verify."""
    manifests: int = 0
    """Batches that stand and verify, those of the access log included."""
    access_entries: int = 0
    """Different requests that have an access entry: a repeated entry counts once."""
    collections: int = 0
    denials: int = 0
    erasures: int = 0
    uncollected: int = 0
    """Batches that are newer than all that the key access service has listed."""
    stale: int = 0
    """Batches that came too late, those of the access log included."""
    unreplaced: int = 0
    """Stale batches of records that their publishers have not published anew."""
    repeats: int = 0
    """Batches that stand once more behind themselves, as a repeated append leaves them; each counts once."""
    repeated: list[Place] = field(default_factory=list)
    """Where the first 1,000 repeats stand."""
    repeated_requests: int = 0
    """Access entries for a request that has one already."""
    opaque: int = 0
    """Messages of epochs whose keys the auditor does not hold."""
    not_judged: int = 0
    """Entries and batches that may be about such messages, and so are neither right nor wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay found; ``verified`` says that there is no violation except known ones."""

    verified: bool
    channels: tuple[str, ...]
    access_unread: tuple[str, ...]
    """Channels whose access log is sealed to others: their collections and decisions are not checked."""
    counts: Counts
    bound: tuple[BoundAt, ...]
    """For each partition the newest position that binds it, and how many messages stand above."""
    receipts: int
    """Receipts that were compared with the log."""
    receipts_not_compared: int
    messages: int
    replayed_at: int
    """When the replay ended, in microseconds."""
    directory_size: int
    violations: tuple[Reported, ...]
    """The first 1,000 of them, roots before what they cause."""
    violation_count: int
    by_kind: Mapping[Kind, int]
    stale: tuple[tuple[int, StaleBatch], ...]
    """The first 1,000 stale batches that nobody has published anew, each with its partition."""

    @property
    def unbound(self) -> int:
        """How many messages stand above the newest position of their partition: the unbound tail."""
        return sum(one.messages for one in self.bound)

    @property
    def position_age_us(self) -> int | None:
        """The age of the newest position of the channel that was bound longest ago; None without one."""
        ages = [age for age in map(self._age_of, {one.partition for one in self.bound}) if age is not None]
        return max(ages, default=None)

    def unbound_channels(self, limit_us: int) -> tuple[int, ...]:
        """Return the channels, by number, of which something is bound by nobody for longer than this.

        Entries that hold positions alone are no news, so they need no position behind them.
        """
        news = {one.partition for one in self.bound if one.news}
        return tuple(
            number for number in sorted(news) if (age := self._age_of(number)) is None or age > limit_us
        )

    def _age_of(self, number: int) -> int | None:
        newest = max((one.issued_at for one in self.bound if one.partition == number), default=0)
        return max(self.replayed_at - newest, 0) if newest else None


def to_json(report: ReplayReport, log: Log) -> dict[str, Any]:
    """The report as JSON: ``verified``, the counts, and the first 1,000 violations.

    Topics have the names that the log's own tools show.
    """
    return {
        "verified": report.verified,
        "channels": list(report.channels),
        "access_unread": list(report.access_unread),
        "records": report.counts.records,
        "manifests": report.counts.manifests,
        "access_entries": report.counts.access_entries,
        "collections": report.counts.collections,
        "denials": report.counts.denials,
        "erasures": report.counts.erasures,
        "uncollected": report.counts.uncollected,
        "opaque": report.counts.opaque,
        "not_judged": report.counts.not_judged,
        "repeats": {
            "count": report.counts.repeats,
            "batches": [place_to_json(place, log) for place in report.counts.repeated],
            "requests": report.counts.repeated_requests,
        },
        "stale": {
            "count": report.counts.unreplaced,
            "batches": [stale_to_json(batch, partition, log) for partition, batch in report.stale],
        },
        "receipts": report.receipts,
        "receipts_not_compared": report.receipts_not_compared,
        "messages": report.messages,
        "positions": [_bound_to_json(one, log) for one in report.bound if one.head is not None],
        "unbound": {
            "messages": {
                f"{physical(log, one.topic)}/{one.partition}": one.messages
                for one in report.bound
                if one.messages
            },
            "age_s": None if report.position_age_us is None else report.position_age_us / 1_000_000,
        },
        "directory_size": report.directory_size,
        "violations": [violation_to_json(reported, log) for reported in report.violations],
        "violation_count": report.violation_count,
        "violations_by_kind": {str(kind): count for kind, count in sorted(report.by_kind.items())},
    }


def _bound_to_json(one: BoundAt, log: Log) -> dict[str, Any]:
    head = one.head
    return {
        "topic": physical(log, one.topic),
        "partition": one.partition,
        "size": 0 if head is None else head.size,
        "root": "" if head is None else head.root.hex(),
        "entry": one.entry,
        "issued_at": one.issued_at,
    }


def violation_to_json(reported: Reported, log: Log) -> dict[str, Any]:
    """Return one violation as JSON; ``caused_by`` is the place of its root violation, or null."""
    violation = reported.violation
    cause = violation.caused_by
    shown: dict[str, Any] = {
        "kind": str(violation.kind),
        **place_to_json(violation.place, log),
        "detail": violation.detail,
        "count": violation.count,
        "caused_by": None if cause is None else place_to_json(cause, log),
    }
    # Programs read this form, so a field that older reports do not have appears only where it says something.
    return shown | {"known": True} if reported.known else shown


def stale_to_json(batch: StaleBatch, partition: int, log: Log) -> dict[str, Any]:
    """Return a stale batch as JSON: where it stands, whose it is, and why it came too late."""
    return {
        **place_to_json(Place(batch.topic, partition, batch.offset), log),
        "issuer": batch.issuer,
        "issued_at": batch.issued_at,
        "records": batch.records,
        "has_orders": batch.has_orders,
        "detail": batch.detail,
    }


def place_to_json(place: Place, log: Log) -> dict[str, Any]:
    """Return a place as JSON, with the topic's name as the log's own tools show it."""
    return {"topic": physical(log, place.topic), "partition": place.partition, "offset": place.offset}


def known_from_json(value: object, log: Log) -> tuple[Known, ...]:
    """Read the known violations from a list, or from an earlier report.

    Each has ``kind``, ``topic``, ``partition`` and ``offset``, and may have ``count``. Raises UsageError
    where the value is neither a list nor a report, or where a violation in it is malformed.
    """
    # A whole report is accepted too, so that an operator can give an earlier one back as it is.
    listed = value.get("violations") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise UsageError("no list of violations", hint="give the output of: audit replay --json")
    return tuple(_known(violation, place, log) for place, violation in enumerate(listed))


def _known(value: object, place: int, log: Log) -> Known:
    where = f"known violation {place}"
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no object")
    kind = value.get("kind")
    topic = value.get("topic")
    partition = value.get("partition")
    offset = value.get("offset")
    count = value.get("count")
    prefix = physical(log, "")
    if kind not in list(Kind):
        raise UsageError(f"{where}: there is no kind '{str(kind)[:60]}'")
    if not isinstance(topic, str) or not topic.startswith(prefix):
        raise UsageError(f"{where}: topic '{str(topic)[:100]}' does not begin with '{prefix}'")
    # ``type`` and not ``isinstance``: to Python true and false are integers too, and they are no offsets.
    if type(partition) is not int or type(offset) is not int or not (count is None or type(count) is int):
        raise UsageError(f"{where}: partition, offset and count are whole numbers")
    at = Place(topic.removeprefix(prefix), partition, offset)
    return Known(kind=Kind(kind), place=at, count=count)
