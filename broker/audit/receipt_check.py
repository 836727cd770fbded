"""Receipts that agencies kept, compared with the access log: each names an entry that must stand there.

    its positions do not fit the log                           LOG_FORKED, and nobody is accused
    no entry of that name stands there, or in a LATE entry     RECEIPT_WITHOUT_ENTRY at the place claimed
    something was released, and no entry is named              RECEIPT_WITHOUT_ENTRY where the log ends
    the entry stands elsewhere, is about another request, or
    says otherwise; released behind an erasure                 RECEIPT_INVALID at the place claimed

Only its own signature can accuse the key access service: a receipt without it is refused before anything
is compared. The receipts lie in a temporary file, so that memory stays flat.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.access.answers import RecordRef, open_receipt
from broker.access.bound_positions import KEPT, BoundPositions
from broker.audit.channel_trees import ChannelTrees
from broker.audit.index import Index
from broker.directory import History, KeyState
from broker.errors import FormatError, NotEntitled, PeerError, SignatureInvalid, UsageError
from broker.log.protocol import MAX_OFFSET
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.violations import Kind, Place, Violation
from broker.wire.access import AccessRequest, Receipt
from broker.wire.encoding import decode
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import AccessTerms, Reason, RecordItem, Signed, Verdict

__all__ = ["MAX_LINE_BYTES", "KeptReceipts", "difference", "read_kept"]

MAX_LINE_BYTES = 1_000_000
"""The longest line in a file of receipts, in bytes; the largest request and its receipt need 60,000."""
_SCHEMA = """
CREATE TABLE receipt(id INTEGER PRIMARY KEY, partition INTEGER, offset INTEGER, batch_id BLOB, place TEXT,
    content BLOB, is_found INTEGER, wrong TEXT);
CREATE INDEX receipt_batch ON receipt(partition, batch_id);
"""


def read_kept(path: Path) -> Iterator[tuple[str, Signed, Signed]]:
    """Yield (``file:line``, request, receipt) for each line of a file that a subscriber kept.

    Raises UsageError, which names the line, for a line that holds no receipt.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield f"{path}:{number}", *_parsed(line, f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None


def _parsed(line: bytes, where: str) -> tuple[Signed, Signed]:
    if len(line) > MAX_LINE_BYTES:
        raise UsageError(f"{where}: a line of more than {MAX_LINE_BYTES} bytes")
    try:
        found = json.loads(line)
        parts = [base64.b64decode(found[name], validate=True) for name in ("request", "receipt")]
        return decode(Signed, parts[0]), decode(Signed, parts[1])
    except (ValueError, KeyError, TypeError, RecursionError, FormatError):
        raise UsageError(
            f"{where}: no receipt",
            hint="give the .receipts file of a subscription; a line that a crash cut short may be removed",
        ) from None


class KeptReceipts:
    """The receipts that a replay compares: ``with KeptReceipts(history) as kept``, then ``take`` each.

    ``see`` and ``conclude`` are called by the replay, channel by channel.
    """

    def __init__(self, history: History) -> None:
        self.compared = 0
        """Receipts that were compared with the log."""
        self._given = 0
        self._history = history
        self._file = tempfile.NamedTemporaryFile(prefix="ftf-receipts-", suffix=".db")  # noqa: SIM115 - closed in close()
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._file.close()

    def take(self, where: str, request: Signed, signed: Signed) -> None:
        """Take a receipt and the request that it answers; ``where`` names its file and line.

        A receipt under a key that was revoked since is counted and not compared: the key's thief could
        have made it. Raises UsageError for a receipt that proves nothing.
        """
        try:
            asked = decode(AccessRequest, request.content)
            receipt = self._opened(signed, asked.directory_size)
        except PeerError as error:
            raise UsageError(f"{where}: {error.message}") from None
        if receipt is not None and receipt.request_digest != sha256(request.content).digest():
            raise UsageError(f"{where}: the receipt answers another request than the one beside it")
        self._given += 1
        if receipt is None:
            return
        channel = self._history.latest.channel(asked.channel)
        entry = receipt.entry
        if entry is not None:
            row = (entry.partition, entry.offset, entry.batch_id)
        elif channel is not None and any(outcome.released for outcome in receipt.outcomes):
            # The receipt names no entry, so no batch will match it, and ``conclude`` reports it where the log
            # ends.
            row = (channel.number, MAX_OFFSET, b"")
        else:
            # It holds only denials that the log counts, and for these the service owes no entry.
            self.compared += 1
            return
        values = (*row, where, signed.content)
        self._db.execute(
            "INSERT INTO receipt(partition, offset, batch_id, place, content, is_found)"
            " VALUES (?, ?, ?, ?, ?, 0)",
            values,
        )

    def _opened(self, signed: Signed, size: int) -> Receipt | None:
        """Open a receipt under a key in use at the request's time or now; None under a revoked key."""
        latest = self._history.latest
        kas = latest.service(latest.kas_name or "")
        keys = {} if kas is None else kas.keys
        signers = [keys[signature.key_id] for signature in signed.signatures if signature.key_id in keys]
        if any(key.state is KeyState.REVOKED for key in signers):
            return None
        try:
            # The size comes from the request, so it may be any number.
            return open_receipt(signed, self._history.upto(size))
        except (NotEntitled, SignatureInvalid):
            # The service may have signed with a key that is newer than the state that the requester had read.
            return open_receipt(signed, latest)

    @property
    def not_compared(self) -> int:
        """The number of receipts under a revoked key, or of channels whose access log was not read."""
        return self._given - self.compared

    # comparing them with the log

    def see(self, opened: OpenedManifest, offset: int, lost: bool, index: Index) -> None:
        """Compare the receipts that name a batch of entries, and keep what is wrong for ``conclude``.

        The batch stands at ``offset``, or it was ``lost`` and came back in a LATE entry. The index knows
        the erasures before it.
        """
        sql = "SELECT id, offset, content FROM receipt WHERE partition = ? AND batch_id = ?"
        rows = self._db.execute(sql, (index.partition, opened.batch_id)).fetchall()
        for row, claimed, content in rows:
            receipt = decode(Receipt, content)
            entry = receipt.entry
            if entry is None or not 0 <= entry.index < len(opened.entries.term_of):
                # The receipt stays without an entry, and ``conclude`` reports it.
                continue
            terms = opened.entries.terms[opened.entries.term_of[entry.index]]
            if not isinstance(terms, AccessTerms):
                continue
            wrong = None if lost or claimed == offset else f"its entry stands at {offset}"
            wrong = wrong or difference(receipt, terms)
            wrong = wrong or _behind_erasure(receipt, terms, index, claimed)
            sql = "UPDATE receipt SET is_found = 1, wrong = ? WHERE id = ?"
            self._db.execute(sql, (wrong, row))

    def conclude(
        self, index: Index, trees: ChannelTrees, bound: BoundPositions, report: Callable[[Violation], Place]
    ) -> None:
        """Report what is wrong with the receipts of a channel, once its access log was read.

        A receipt convicts the service only where its positions fit the log that we read. Where they do not,
        the log is another one, which ``bound`` will say of them.
        """
        sql = (
            "SELECT offset, place, content, is_found, wrong FROM receipt WHERE partition = ?"
            " ORDER BY offset, id"
        )
        for claimed, where, content, is_found, wrong in self._db.execute(sql, (index.partition,)).fetchall():
            receipt = decode(Receipt, content)
            # We hold no key for the message there, so we can neither confirm nor accuse.
            if not is_found and index.skipped_within(ACCESS_TOPIC, claimed, claimed):
                continue
            self.compared += 1
            if not self._fits(receipt, claimed, trees, bound):
                continue
            entry = receipt.entry
            if is_found and wrong is not None:
                self._violate(Kind.RECEIPT_INVALID, claimed, f"{where}: {wrong}", index, report)
            elif is_found:
                continue
            elif entry is None:
                detail = f"{where}: says released, and names no entry"
                self._violate(Kind.RECEIPT_WITHOUT_ENTRY, trees.size(ACCESS_TOPIC), detail, index, report)
            else:
                what = f"its entry, record {entry.index} of batch {entry.batch_id.hex()}, is not in the log"
                self._violate(Kind.RECEIPT_WITHOUT_ENTRY, claimed, f"{where}: {what}", index, report)

    def _fits(self, receipt: Receipt, claimed: int, trees: ChannelTrees, bound: BoundPositions) -> bool:
        """Whether the log that we read is the one that the receipt was signed over."""
        positions = receipt.positions
        if positions is None or receipt.entry is None:
            return True
        bound.take(positions, offset=claimed, issued_at=receipt.issued_at, key_id=KEPT)
        return all(trees.root_at(head.topic, head.size) == head.root for head in positions.heads)

    def _violate(
        self, kind: Kind, offset: int, detail: str, index: Index, report: Callable[[Violation], Place]
    ) -> None:
        cause = index.root_within(ACCESS_TOPIC, offset, offset)
        place = Place(ACCESS_TOPIC, index.partition, offset)
        report(Violation(kind=kind, place=place, detail=detail, caused_by=cause))


def difference(receipt: Receipt, terms: AccessTerms) -> str | None:
    """Say in words how a receipt differs from its entry; None where they agree.

    "Allowed" in the entry and "withheld" in the answer agree: the service decides again before it
    answers, and may then only give less.
    """
    if sha256(terms.request.content).digest() != receipt.request_digest:
        return "its entry is about another request"
    said: dict[RecordRef, tuple[Verdict, Reason | None]] = {}
    for outcome in receipt.outcomes:
        if outcome.released and outcome.verdict is Verdict.DENIED:
            return "says denied and released"
        reason = outcome.reason if outcome.verdict is Verdict.DENIED else None
        for record in outcome.indexes or (-1,):
            ref = RecordRef(outcome.item, record)
            if said.setdefault(ref, (outcome.verdict, reason)) != (outcome.verdict, reason):
                return f"says two things of record {record} of item {outcome.item}"
    logged = {
        RecordRef(outcome.item, record): (outcome.verdict, outcome.reason)
        for outcome in terms.outcomes
        for record in outcome.indexes or (-1,)
    }
    for ref in sorted(said.keys() | logged.keys()):
        if said.get(ref) != logged.get(ref):
            what = f"record {ref.record} of item {ref.item}"
            return f"says {_words(said.get(ref))} for {what}, its entry {_words(logged.get(ref))}"
    return None


def _words(outcome: tuple[Verdict, Reason | None] | None) -> str:
    if outcome is None:
        return "nothing"
    verdict, reason = outcome
    return str(verdict) + (f" ({reason})" if reason else "")


def _behind_erasure(receipt: Receipt, terms: AccessTerms, index: Index, offset: int) -> str | None:
    """Name a record that was released after an earlier entry had shredded it; None if there is none."""
    # ``difference`` has found before that the receipt is about this request, and ``take`` has decoded that
    # one.
    items = decode(AccessRequest, terms.request.content).items
    for outcome in receipt.outcomes:
        item = items[outcome.item] if 0 <= outcome.item < len(items) else None
        if not outcome.released or not isinstance(item, RecordItem):
            continue
        shredded = sorted(set(outcome.indexes) & set(index.shreddings(item.batch_id, offset)))
        if shredded:
            return f"says released for record {shredded[0]} of item {outcome.item}, which was erased before"
    return None
