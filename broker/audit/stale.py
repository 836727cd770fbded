"""Stale batches of a channel: those that came too late without anybody's fault, and those that did not.

A batch that was right in the view that it names, and is no more at its place in the log, is stale
(``broker.verify.standing``). Its publisher publishes it anew, and the new batch names it in ``instead_of``.
An issuer must not be able to call everything late for ever, so a replay, which reads the access log too,
bounds the excuse:

    first     the first entry of the access log whose positions name the change: by then it was known
    closing   the first entry behind it that was issued five minutes later; what it binds of the partition
              came in time

A batch that stands at or above the closing position is a violation, of the kind that the change makes it. A
stale batch without a successor is listed, and is a violation too where it carries an order, which then does
not count, or where it is older than a day.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from broker.clock import DAY_US, MINUTE_US
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.events import Stale
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import encode
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import TermsLeaf
from broker.wire.terms import RecordTerms

__all__ = ["GRACE_US", "MAX_LISTED_STALE", "Covering", "StaleBatch", "StaleTable", "check_stale"]

GRACE_US = 5 * MINUTE_US
"""How long an honest publisher may need, after a change is known, to have read of it."""

MAX_LISTED_STALE = 1000
"""The most stale batches that a report lists; all are counted."""

_SCHEMA = """
CREATE TABLE stale(batch_id BLOB PRIMARY KEY, topic TEXT, offset INTEGER, records INTEGER, issuer TEXT,
    issued_at INTEGER, since INTEGER, kind TEXT, detail TEXT, has_orders INTEGER, content BLOB);
CREATE INDEX stale_place ON stale(topic, offset);
CREATE TABLE successor(batch_id BLOB, topic TEXT, issuer TEXT, content BLOB);
CREATE INDEX successor_batch ON successor(batch_id);
"""
_COLUMNS = "batch_id, topic, offset, records, issuer, issued_at, since, kind, detail, has_orders, content"


class StaleBatch(NamedTuple):
    """A stale batch; it is right up to the directory size ``since``, and then ``kind`` says what it is."""

    batch_id: bytes
    topic: str
    offset: int
    records: int
    issuer: str
    issued_at: int
    since: int
    kind: Kind
    detail: str
    has_orders: bool
    content: bytes
    """What a batch that stands in for it must repeat, see ``_content``."""


class StaleTable:
    """The stale batches of one channel, and the batches that stand in for them, in the replay's file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
            db.execute(statement)

    def add(self, batch: Stale) -> None:
        """Remember a stale batch; a second one of its name does not count."""
        terms = batch.opened.entries.terms
        row = (
            batch.batch_id,
            batch.topic,
            batch.offset,
            batch.opened.manifest.count,
            batch.header.issuer,
            batch.header.issued_at,
            batch.lapse.since,
            batch.lapse.fault.kind,
            batch.lapse.fault.detail,
            any(isinstance(one, RecordTerms) and one.targets for one in terms),
            _content(batch.opened),
        )
        self._db.execute("INSERT OR IGNORE INTO stale VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def succeed(self, opened: OpenedManifest) -> None:
        """Remember that this batch stands in for the one that it names, if it names one."""
        manifest = opened.manifest
        if manifest.instead_of is not None:
            row = (manifest.instead_of, manifest.header.topic, manifest.header.issuer, _content(opened))
            self._db.execute("INSERT INTO successor VALUES (?, ?, ?, ?)", row)

    def get(self, batch_id: bytes) -> StaleBatch | None:
        """Return the stale batch of this name, None where there is none."""
        found = self._select("WHERE batch_id = ?", batch_id)
        return next(found, None)

    def unlisted(self, topic: str) -> list[int]:
        """Return the offsets of a topic's stale batches that no entry lists."""
        where = "WHERE topic = ? AND batch_id NOT IN (SELECT batch_id FROM listed) ORDER BY offset"
        return [batch.offset for batch in self._select(where, topic)]

    def all(self) -> Iterator[StaleBatch]:
        """Yield every stale batch, topic by topic, in the order of the log."""
        yield from self._select("ORDER BY topic, offset")

    def has_successor(self, batch: StaleBatch) -> bool:
        """Tell whether its issuer has published it anew: the same records under the same terms."""
        sql = "SELECT 1 FROM successor WHERE batch_id = ? AND topic = ? AND issuer = ? AND content = ?"
        row = (batch.batch_id, batch.topic, batch.issuer, batch.content)
        return self._db.execute(sql, row).fetchone() is not None

    def _select(self, where: str, *values: object) -> Iterator[StaleBatch]:
        sql = f"SELECT {_COLUMNS} FROM stale {where}"  # noqa: S608 - constants
        for row in self._db.execute(sql, values).fetchall():
            yield _stale(row)


def _content(opened: OpenedManifest) -> bytes:
    """Return a digest of the records' ids and terms, orders included: these a batch that stands in repeats.

    Without it any batch that names a stale order would excuse that the order was never given again. Bodies
    are not compared, since an auditor cannot open them, and their locks differ.
    """
    entries = opened.entries
    count = opened.manifest.count.to_bytes(4, "big")
    terms = (encode(TermsLeaf(terms=one)) for one in entries.terms)
    return sha256(b"".join((count, entries.record_ids, entries.term_of, *terms))).digest()


def _stale(row: tuple[Any, ...]) -> StaleBatch:
    batch_id, topic, offset, records, issuer, issued_at, since, kind, detail, has_orders, content = row
    return StaleBatch(
        batch_id,
        topic,
        offset,
        records,
        issuer,
        issued_at,
        since,
        Kind(kind),
        detail,
        bool(has_orders),
        content,
    )


@dataclass(slots=True)
class _First:
    """The first entry that names a size of the directory, and the sizes that the closing entry names."""

    due: int
    closing: Mapping[str, int] | None = None


@dataclass(slots=True)
class Covering:
    """Which entries of the access log cover a change of the directory. Only ``take`` writes the fields.

    One value is kept for each size of the directory that entries name first, so memory is bounded by the
    directory and not by the access log.
    """

    newest_at: int = 0
    """When the newest entry was issued, in microseconds."""
    _sizes: list[int] = field(default_factory=list)
    _firsts: list[_First] = field(default_factory=list)
    _waiting: list[_First] = field(default_factory=list)

    def take(self, directory_size: int, issued_at: int, sizes: Mapping[str, int]) -> None:
        """Take the positions of the next entry, in the order of the log: the size of each topic."""
        self.newest_at = max(self.newest_at, issued_at)
        if self._waiting:
            for first in self._waiting:
                if issued_at >= first.due:
                    first.closing = sizes
            self._waiting = [first for first in self._waiting if first.closing is None]
        if not self._sizes or directory_size > self._sizes[-1]:
            first = _First(issued_at + GRACE_US)
            self._sizes.append(directory_size)
            self._firsts.append(first)
            self._waiting.append(first)

    def closes(self, since: int, topic: str) -> int | None:
        """Return the offset in a topic from which on nothing is excused by a change at this size, or None."""
        place = bisect_left(self._sizes, since)
        closing = self._firsts[place].closing if place < len(self._firsts) else None
        return None if closing is None else closing.get(topic)


def check_stale(
    table: StaleTable, covering: Covering, partition: int, report: Callable[[Violation], Place]
) -> Iterator[StaleBatch]:
    """Report the batches of a channel that are not stale or should have a successor.

    Yields the stale batches of records without a successor.
    """
    for batch in table.all():
        place = Place(batch.topic, partition, batch.offset)
        closes = covering.closes(batch.since, batch.topic)
        if closes is not None and batch.offset >= closes:
            detail = f"'{batch.issuer}' came too late to be excused: {batch.detail}"
            report(Violation(kind=batch.kind, place=place, detail=detail))
            continue
        if batch.topic == ACCESS_TOPIC or table.has_successor(batch):
            continue
        yield batch
        if batch.has_orders:
            detail = (
                f"'{batch.issuer}' has not published it anew, and its order does not count: {batch.detail}"
            )
        elif covering.newest_at - batch.issued_at > DAY_US:
            detail = f"'{batch.issuer}' has not published it anew within a day: {batch.detail}"
        else:
            continue
        report(Violation(kind=Kind.STALE_BATCH, place=place, detail=detail))
