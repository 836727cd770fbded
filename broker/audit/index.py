"""The index: everything that a replay must remember of one channel, in a temporary file.

Memory therefore stays flat. There is a table for each thing that later checks ask for: the batches that
stand, the records that their orders name, what the access log lists and shreds, the access entries, and the
violations found so far, from which causes are named. Batches are buffered and written 256 at a time, all in
one transaction that is never committed; the file disappears with the index.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Any, NamedTuple, Self

from broker.access.record_states import IndexedBatch
from broker.audit.stale import StaleTable
from broker.log.protocol import MAX_OFFSET
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.encoding import decode, encode
from broker.wire.manifest import (
    AccessTerms,
    Collected,
    CollectionStatus,
    ErasureTerms,
    Header,
    Positions,
    TermsLeaf,
)
from broker.wire.terms import RecordTerms

__all__ = ["Index", "Listed", "StoredBatch", "StoredEntry"]

_SCHEMA = """
CREATE TABLE batch(batch_id BLOB PRIMARY KEY, topic TEXT, offset INTEGER, last INTEGER, judged_at INTEGER,
    epoch INTEGER, issuer TEXT, record_type TEXT, key_id BLOB, manifest_id BLOB, terms TEXT, term_of BLOB);
CREATE INDEX batch_place ON batch(topic, offset);
CREATE TABLE terms(id INTEGER PRIMARY KEY, content BLOB);
CREATE TABLE target(batch_id BLOB, by_batch BLOB);
CREATE INDEX target_batch ON target(batch_id);
CREATE TABLE listed(batch_id BLOB PRIMARY KEY, topic TEXT, offset INTEGER, count INTEGER, status TEXT,
    access_offset INTEGER, size INTEGER, issued_at INTEGER);
CREATE INDEX listed_place ON listed(topic, offset);
CREATE TABLE shredded(batch_id BLOB, record INTEGER, access_offset INTEGER);
CREATE INDEX shredded_batch ON shredded(batch_id);
CREATE TABLE entry(access_offset INTEGER, record INTEGER, issued_at INTEGER, stream BLOB, digest BLOB,
    terms BLOB, positions BLOB);
CREATE TABLE violation(topic TEXT, offset INTEGER, last INTEGER, kind TEXT, root_topic TEXT,
    root_partition INTEGER, root_offset INTEGER);
CREATE INDEX violation_place ON violation(topic, last);
CREATE TABLE skipped(topic TEXT, offset INTEGER);
CREATE INDEX skipped_place ON skipped(topic, offset);
"""
_INSERT_BATCH = "INSERT OR IGNORE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BATCH = (
    "SELECT batch_id, topic, offset, last, judged_at, epoch, issuer, record_type, key_id,"
    " manifest_id, terms, term_of FROM batch "
)
_LISTED = "SELECT batch_id, topic, offset, count, status, access_offset, size, issued_at FROM listed "
_BUFFERED = 256
_MAX_TERMS = 1024
_MAX_ORDERS = 8192
"""The most batches with orders that are kept ready: many accesses may ask for the orders on one record."""


class StoredBatch(NamedTuple):
    """A batch that stands; ``last`` is the offset of its last body, ``key_id`` the key that signed it."""

    indexed: IndexedBatch
    last: int
    key_id: bytes


class Listed(NamedTuple):
    """A batch as the entry at ``access_offset`` lists it; the service's directory had ``size`` then.

    ``issued_at`` is the time of the entry.
    """

    batch_id: bytes
    topic: str
    offset: int
    records: int
    status: CollectionStatus
    access_offset: int
    size: int
    issued_at: int


class StoredEntry(NamedTuple):
    """An access entry: where it stands, when and in which stream it was issued, its terms and positions.

    An entry that came back inside a LATE entry has no stream, since it is read out of its order. One whose
    positions cannot be has none: that was reported, and it cannot be decided again.
    """

    offset: int
    record: int
    issued_at: int
    stream: bytes | None
    terms: AccessTerms
    positions: Positions | None


class Index:
    """The memory of one channel's replay: ``with Index(partition) as index``.

    ``_batches`` is the buffer of rows that are not written yet, so ``flush`` is called before the first
    question about batches. ``_term_ids`` and ``_terms`` are bounded caches of the table ``terms``.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        # A database without a name stays in the cache; beyond it SQLite writes to a file that it has
        # deleted already, so that nothing of it is left even after a crash.
        self._db = sqlite3.connect("", isolation_level=None)
        # A journal and syncing would only help to repair the file after a crash, and nobody ever reads it
        # again.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4096", "temp_store = FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(f"BEGIN;{_SCHEMA}")
        self.stale = StaleTable(self._db)
        self._batches: list[tuple[object, ...]] = []
        self._term_ids: OrderedDict[RecordTerms, int] = OrderedDict()
        self._terms: OrderedDict[int, RecordTerms] = OrderedDict()
        self._next_term = 0
        self._orders: dict[tuple[bytes, str], tuple[StoredBatch, ...]] = {}
        """What ``orders_on`` answered last, as long as no batch comes; ``_orders_kept`` counts it."""
        self._orders_kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    # remembering

    def add(self, batch: VerifiedBatch) -> Sequence[tuple[Place, Place]]:
        """Remember a batch of records that stands; a later batch of the same name does not count.

        Returns those of the batches added since the last writing that stand twice: the place of each
        copy, and the place where it stands first.
        """
        opened = batch.opened
        manifest = opened.manifest
        terms = [leaf for leaf in opened.entries.terms if isinstance(leaf, RecordTerms)]
        row = (
            batch.batch_id,
            batch.topic,
            batch.offset,
            batch.offset + manifest.count,
            batch.judged_at,
            manifest.header.epoch,
            manifest.header.issuer,
            manifest.record_type,
            opened.key_id,
            manifest.manifest_id,
            ",".join(str(self._term_id(leaf)) for leaf in terms),
            opened.entries.term_of,
        )
        self._batches.append(row)
        self.stale.succeed(opened)
        self._forget_orders()
        targets = {target.batch_id for leaf in terms for target in leaf.targets}
        if targets:
            rows = [(target, batch.batch_id) for target in targets]
            self._db.executemany("INSERT INTO target VALUES (?, ?)", rows)
        return self.flush() if len(self._batches) >= _BUFFERED else ()

    def flush(self) -> Sequence[tuple[Place, Place]]:
        """Write what is buffered; returns the batches that stand twice, as ``add`` does."""
        rows = self._batches
        self._batches = []
        # The first batch of a name stays (INSERT OR IGNORE). Fewer new rows than batches mean that some stand
        # twice.
        if self._db.executemany(_INSERT_BATCH, rows).rowcount == len(rows) or not rows:
            return ()
        twice = []
        for batch_id, topic, offset, *_ in rows:
            where = self._db.execute("SELECT topic, offset FROM batch WHERE batch_id = ?", (batch_id,))
            first = where.fetchone()
            if first != (topic, offset):
                twice.append((self._place(topic, offset), self._place(*first)))
        return twice

    def _place(self, topic: Any, offset: Any) -> Place:
        return Place(topic, self.partition, offset)

    def _term_id(self, terms: RecordTerms) -> int:
        found = self._term_ids.get(terms)
        if found is None:
            found = self._term_ids[terms] = self._next_term
            self._next_term += 1
            self._db.execute("INSERT INTO terms VALUES (?, ?)", (found, encode(TermsLeaf(terms=terms))))
            if len(self._term_ids) > _MAX_TERMS:
                # Terms that come again after this get a second row, which costs space and changes nothing.
                self._term_ids.popitem(last=False)
        return found

    def take_listing(self, batch: Collected, access_offset: int, header: Header) -> Listed | None:
        """Remember what an entry lists; returns what an earlier entry said of the batch, which counts."""
        # The first listing of a batch counts. A later one that differs is reported by ``access_log``.
        said = (batch.batch_id, batch.topic, batch.offset, batch.count, batch.status)
        row = (*said, access_offset, header.directory_size, header.issued_at)
        if self._db.execute("INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount:
            return None
        return self.listed(batch.batch_id)

    def shred(self, terms: ErasureTerms, access_offset: int) -> None:
        """Remember the records that an erasure entry names."""
        rows = [(target.batch_id, target.index, access_offset) for target in terms.targets]
        self._db.executemany("INSERT INTO shredded VALUES (?, ?, ?)", rows)

    def enter(self, entry: StoredEntry) -> None:
        """Remember an access entry: it is judged when everything is known."""
        offset, record, issued_at, stream, terms, positions = entry
        digest = sha256(terms.request.content).digest()
        row = (
            offset,
            record,
            issued_at,
            stream,
            digest,
            encode(TermsLeaf(terms=terms)),
            None if positions is None else encode(positions),
        )
        self._db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def note(self, violation: Violation) -> None:
        """Remember a violation, so that later violations can name it as their cause."""
        topic, _, offset = violation.place
        root = violation.caused_by or violation.place
        row = (topic, offset, offset + violation.count - 1, violation.kind, *root)
        self._db.execute("INSERT INTO violation VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def skip(self, topic: str, offset: int) -> None:
        """Remember a message for which we hold no key."""
        self._db.execute("INSERT INTO skipped VALUES (?, ?)", (topic, offset))

    # asking

    def batch(self, batch_id: bytes) -> StoredBatch | None:
        """Return the batch of this name; None where the log has no such batch."""
        return self._one_batch("WHERE batch_id = ?", batch_id)

    def batch_across(self, topic: str, offset: int) -> StoredBatch | None:
        """Return the batch that a log ending at this offset would cut in two, or None."""
        found = self._one_batch("WHERE topic = ? AND offset < ? ORDER BY offset DESC LIMIT 1", topic, offset)
        return found if found and found.last >= offset else None

    def orders_on(self, batch_id: bytes, issuer: str) -> Sequence[StoredBatch]:
        """Return this issuer's batches with orders on records of the batch; orders of others do not count."""
        found = self._orders.get((batch_id, issuer))
        if found is None:
            where = "WHERE batch_id IN (SELECT by_batch FROM target WHERE batch_id = ?) AND issuer = ?"
            rows = self._db.execute(_BATCH + where, (batch_id, issuer)).fetchall()
            found = tuple(self._stored(row) for row in rows)
            if self._orders_kept + len(found) >= _MAX_ORDERS:
                self._forget_orders()
            if len(found) < _MAX_ORDERS:
                self._orders[batch_id, issuer] = found
                self._orders_kept += 1 + len(found)
        return found

    def _forget_orders(self) -> None:
        self._orders.clear()
        self._orders_kept = 0

    def unlisted(self, topic: str) -> Iterator[StoredBatch]:
        """Yield the batches of a topic that no entry lists, in the order of the log."""
        where = "WHERE topic = ? AND batch_id NOT IN (SELECT batch_id FROM listed) ORDER BY offset"
        for row in self._db.execute(_BATCH + where, (topic,)):
            yield self._stored(row)

    def _one_batch(self, where: str, *values: object) -> StoredBatch | None:
        row = self._db.execute(_BATCH + where, values).fetchone()
        return None if row is None else self._stored(row)

    def _stored(self, row: Sequence[Any]) -> StoredBatch:
        batch_id, topic, offset, last, judged_at, epoch, issuer, record_type, key_id = row[:9]
        indexed = IndexedBatch(
            batch_id=batch_id,
            topic=topic,
            partition=self.partition,
            offset=offset,
            epoch=epoch,
            issuer=issuer,
            record_type=record_type,
            manifest_id=row[9],
            count=last - offset,
            judged_at=judged_at,
            terms=tuple(self._record_terms(int(number)) for number in row[10].split(",")),
            term_of=row[11],
        )
        return StoredBatch(indexed, last, key_id)

    def _record_terms(self, number: int) -> RecordTerms:
        found = self._terms.get(number)
        if found is None:
            (content,) = self._db.execute("SELECT content FROM terms WHERE id = ?", (number,)).fetchone()
            leaf = decode(TermsLeaf, content).terms
            if not isinstance(leaf, RecordTerms):
                raise TypeError("only terms of records are kept")
            found = self._terms[number] = leaf
            if len(self._terms) > _MAX_TERMS:
                self._terms.popitem(last=False)
        return found

    def listed(self, batch_id: bytes) -> Listed | None:
        """Return the listing of a batch in the access log; None where no entry lists it."""
        row = self._db.execute(_LISTED + "WHERE batch_id = ?", (batch_id,)).fetchone()
        return None if row is None else _listed(row)

    def listings(self, topic: str) -> Iterator[Listed]:
        """Yield the listings of a topic's batches, in the order of the offsets that they name."""
        for row in self._db.execute(_LISTED + "WHERE topic = ? ORDER BY offset, access_offset", (topic,)):
            yield _listed(row)

    def listed_around(self, topic: str, offset: int) -> tuple[Listed | None, Listed | None]:
        """Return the nearest listed batches before and behind an offset."""
        before = _LISTED + "WHERE topic = ? AND offset < ? ORDER BY offset DESC LIMIT 1"
        behind = _LISTED + "WHERE topic = ? AND offset > ? ORDER BY offset LIMIT 1"
        rows = [self._db.execute(sql, (topic, offset)).fetchone() for sql in (before, behind)]
        first, second = (None if row is None else _listed(row) for row in rows)
        return first, second

    def shreddings(self, batch_id: bytes, access_end: int) -> list[int]:
        """Return the records of a batch that entries before ``access_end`` name as shredded."""
        sql = "SELECT record FROM shredded WHERE batch_id = ? AND access_offset < ?"
        return [int(record) for (record,) in self._db.execute(sql, (batch_id, access_end))]

    def entries(self) -> Iterator[StoredEntry]:
        """Yield every access entry, in the order in which it was read."""
        sql = "SELECT access_offset, record, issued_at, stream, terms, positions FROM entry ORDER BY rowid"
        for offset, record, issued_at, stream, content, positions in self._db.execute(sql):
            terms = decode(TermsLeaf, content).terms
            if isinstance(terms, AccessTerms):
                judged = None if positions is None else decode(Positions, positions)
                yield StoredEntry(offset, record, issued_at, stream, terms, judged)

    def requests(self) -> int:
        """Count the different requests that have an access entry; a repeated entry counts once."""
        (count,) = self._db.execute("SELECT count(DISTINCT digest) FROM entry").fetchone()
        return int(count)

    def repeated_requests(self) -> int:
        """Count the access entries of requests that have an earlier entry."""
        (count,) = self._db.execute("SELECT count(*) FROM entry").fetchone()
        return int(count) - self.requests()

    def root_within(self, topic: str, first: int, last: int) -> Place | None:
        """Return the root of the first violation that touches these offsets."""
        # The offset may come from an entry, which can claim any number. A larger one fits no column of
        # SQLite.
        return self._root("topic = ? AND last >= ? AND offset <= ?", topic, first, min(last, MAX_OFFSET))

    def gap_behind(self, topic: str, offset: int) -> Place | None:
        """Return the root of the first gap in a stream behind this offset."""
        return self._root("topic = ? AND last >= ? AND kind = ?", topic, offset, Kind.STREAM_GAP)

    def _root(self, where: str, *values: object) -> Place | None:
        columns = "root_topic, root_partition, root_offset"
        sql = f"SELECT {columns} FROM violation WHERE {where} ORDER BY last LIMIT 1"  # noqa: S608 - constants
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else Place(*row)

    def is_skipped(self, topic: str, offset: int) -> bool:
        """Tell whether the message at this offset is of an epoch for which we hold no key."""
        return offset <= MAX_OFFSET and self.skipped_within(topic, offset, offset)

    def skipped_within(self, topic: str, first: int, last: int) -> bool:
        """Tell whether one of these messages is of an epoch for which we hold no key."""
        sql = "SELECT 1 FROM skipped WHERE topic = ? AND offset BETWEEN ? AND ? LIMIT 1"
        return self._db.execute(sql, (topic, first, min(last, MAX_OFFSET))).fetchone() is not None


def _listed(row: Sequence[Any]) -> Listed:
    batch_id, topic, offset, count, status, *entry = row
    return Listed(batch_id, topic, offset, count, CollectionStatus(status), *entry)
