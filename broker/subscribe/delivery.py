"""Delivery: a verified batch and its release shares become records, or the reasons why they do not.

A body is locked under two shares: the member share, which the channel's members can open, and the record's
release share, which the key access service gave us. Opening a batch has seven steps:

    (1) the schema that wrote the batch is known, and is one of this record type and topic
    (2) each release share is the one that the issuer signed for; if not, the service is to blame
    (3) the member share is derived, or opens if it was sealed to named agencies; if it does not open, the
        issuer is to blame, as in all steps that follow
    (4) each body unlocks, is the body that the issuer committed to, and is padded as it must be
    (5) the body is Avro of the writer's schema
    (6) the record keeps the rules of its record type
    (7) the body is projected onto the current schema of its record type

A record that fails does not keep the others of its batch from being delivered. Pure. Shares and keys live
only while a batch is being opened, and are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

from broker.avro.projection import projection
from broker.avro.schema import RecordSchema, SchemaStore
from broker.clock import day_of
from broker.crypto.lock import body_keys, context_of, unlock, wrong_release_shares
from broker.crypto.seal import member_share_info, open_sealed
from broker.directory import Channel, Directory
from broker.errors import FormatError, OpenError
from broker.participant.keyring import Keyring
from broker.records.record import ORDERS, Record, check_received, decode_body
from broker.records.words import EPOCH
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import Reason
from broker.wire.terms import RecordTerms

__all__ = [
    "READER_TOO_OLD",
    "Delivered",
    "Delivery",
    "NotDelivered",
    "Opener",
    "Release",
    "body_place",
    "not_delivered",
]

READER_TOO_OLD = "READER_TOO_OLD"
"""Reason for a record whose schema this release does not have: it is read after an update, by consulting."""

_LAST_DAY = (date.max - EPOCH).days


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A record that was unlocked and may be used. The access is in the log, and ``receipt`` proves it."""

    record: Record
    place: Place
    """The place of the batch's manifest."""
    batch_id: bytes
    index: int
    issuer: str
    issued_at: int
    """Microseconds since 1970-01-01, as the issuer signed it."""
    receipt: bytes
    """SHA-256 of the receipt of the key access service."""
    opened: OpenedManifest
    """The signed manifest and its entries, as evidence of the record's origin."""

    @property
    def record_id(self) -> bytes:
        """The id that the issuer gave the record; two issuers may give the same id."""
        return self.record.record_id


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDelivered:
    """A record that was not released to us: ``reason`` is the name of a Reason, or READER_TOO_OLD."""

    place: Place
    batch_id: bytes
    index: int
    record_id: bytes
    issuer: str
    reason: str


Delivery = Delivered | NotDelivered | Violation
"""What a subscriber is given: a record, a record that was not released, or a fault of the log."""


# There is no ``repr``: release shares must never come into a log line or a traceback.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Release:
    """The answer of the key access service for one batch: shares and reasons for denial, by index."""

    receipt: bytes
    shares: Mapping[int, bytes]
    withheld: Mapping[int, Reason]


def body_place(batch: VerifiedBatch, index: int) -> Place:
    """Return the place of a record's body: record ``index`` stands ``index + 1`` after its manifest."""
    return Place(batch.topic, batch.partition, batch.offset + 1 + index)


def not_delivered(batch: VerifiedBatch, index: int, reason: str) -> NotDelivered:
    """Name a record of this batch as not delivered, for this reason."""
    return NotDelivered(
        place=Place(batch.topic, batch.partition, batch.offset),
        batch_id=batch.batch_id,
        index=index,
        record_id=batch.opened.entries.record_id(index),
        issuer=batch.header.issuer,
        reason=reason,
    )


@dataclass(slots=True)
class Opener:
    """Opens batches for one participant; keeps nothing between batches except compiled projections."""

    keyring: Keyring
    store: SchemaStore
    _projections: dict[bytes, Callable[[Any], Any] | None] = field(default_factory=dict)
    """The projection of each writer's schema, by schema id; None for a schema that is current."""

    def schema_of(self, batch: VerifiedBatch) -> RecordSchema | Violation | None:
        """Return the schema that wrote the batch; None if our release is too old to have it.

        Returns a Violation if the schema is that of another record type or topic.
        """
        manifest = batch.opened.manifest
        try:
            return self.store.written_with(
                manifest.schema, record_type=manifest.record_type, topic=batch.topic
            )  # (1)
        except FormatError as error:
            return self._blame(Kind.SCHEMA_MISMATCH, batch, error.message)

    def open(
        self,
        batch: VerifiedBatch,
        indexes: Sequence[int],
        release: Release,
        *,
        schema: RecordSchema,
        directory: Directory,
        channel: Channel,
    ) -> Iterator[tuple[int, Delivery]]:
        """Yield what becomes of these records of the batch, each with its index, in order.

        ``schema`` is what ``schema_of`` returned.
        """
        header = batch.header
        entries = batch.opened.entries
        context = context_of(
            directory.genesis,
            header.topic,
            header.partition,
            header.epoch,
            header.issuer,
            batch.opened.manifest.manifest_id,
        )
        issued_on = _date(header.issued_at)
        # Only records that we asked for are opened; shares of other records are not even looked at.
        released = [i for i in indexes if i in release.shares]
        shares = [release.shares[i] for i in released]
        # This check comes before any unlocking. A body does not unlock under a wrong release share, and
        # without this check the issuer would be blamed for a fault of the service.
        wrong = wrong_release_shares(context, released, shares, entries.release_checks)  # (2)
        right = [i for i in released if i not in wrong]
        keys = self._body_keys(batch, context, right, release, directory, channel) if right else {}  # (3)
        for i in indexes:
            if i not in release.shares:
                yield i, not_delivered(batch, i, release.withheld.get(i, Reason.UNKNOWN_RECORD))
            elif i in wrong:
                detail = f"'{directory.kas_name}' released a share that does not fit record {i}"
                place = body_place(batch, i)
                yield i, Violation(kind=Kind.RELEASE_SHARE, place=place, detail=detail)
            elif isinstance(keys, Violation):
                # One broken seal is one violation, which counts for all of its records.
                if i == right[0]:
                    yield i, replace(keys, count=len(right))
            elif i not in keys:
                yield i, not_delivered(batch, i, Reason.EPOCH_NOT_GRANTED)
            else:
                yield i, self._record(batch, i, keys[i], schema, channel, issued_on, release.receipt)

    def _body_keys(
        self,
        batch: VerifiedBatch,
        context: bytes,
        indexes: Sequence[int],
        release: Release,
        directory: Directory,
        channel: Channel,
    ) -> dict[int, bytes] | Violation:
        """Derive the keys of these bodies; none if the member share is not for us."""
        try:
            member_share = self._member_share(batch, context, directory, channel)
            if member_share is None:
                return {}
            shares = [release.shares[i] for i in indexes]
            return dict(zip(indexes, body_keys(context, member_share, indexes, shares), strict=True))
        except OpenError as error:
            return self._blame(Kind.MEMBER_SEAL, batch, error.message)

    def _member_share(
        self, batch: VerifiedBatch, context: bytes, directory: Directory, channel: Channel
    ) -> bytes | None:
        """Return the member share; None if we hold no key that gives it.

        Raises OpenError if it is sealed to us and does not open, or has the wrong length.
        """
        seals = batch.opened.manifest.member_seals
        if not seals:
            content = self.keyring.epoch_key(directory, channel.name, batch.header.epoch, "content")
            return None if content is None else content.keys.member_share(context)
        info = member_share_info(context)
        # The first seal that is ours is opened. An issuer could seal different shares to different readers,
        # which is not compared here: the commitment to each body (4) does not fit a wrong share.
        for seal in seals:
            if (key := self.keyring.receiving.get(seal.key_id)) is not None:
                share = open_sealed(key, seal.sealed, info)
                if len(share) != 32:
                    raise OpenError(f"member share of {len(share)} bytes, expected 32")
                return share
        return None

    def _record(
        self,
        batch: VerifiedBatch,
        index: int,
        key: bytes,
        schema: RecordSchema,
        channel: Channel,
        issued_on: date | None,
        receipt: bytes,
    ) -> Delivery:
        entries = batch.opened.entries
        header = batch.header
        try:
            plain = unlock(key, index, batch.bodies[index], entries.commitment(index))  # (4)
        except (OpenError, FormatError) as error:
            return self._blame(Kind.BODY_LOCKED, batch, error.message, index)
        terms = entries.terms[entries.term_of[index]]
        if not isinstance(terms, RecordTerms):
            return self._blame(Kind.RECORD_INVALID, batch, "terms of no record", index)
        try:
            body = self._body(plain, schema, terms, channel, issued_on)
        except FormatError as error:
            return self._blame(Kind.RECORD_INVALID, batch, error.message, index)
        record = Record(
            record_type=schema.record_type,
            record_id=entries.record_id(index),
            terms=terms,
            body=body,
        )
        return Delivered(
            record=record,
            place=Place(batch.topic, batch.partition, batch.offset),
            batch_id=batch.batch_id,
            index=index,
            issuer=header.issuer,
            issued_at=header.issued_at,
            receipt=receipt,
            opened=batch.opened,
        )

    def _body(
        self,
        plain: bytes,
        schema: RecordSchema,
        terms: RecordTerms,
        channel: Channel,
        issued_on: date | None,
    ) -> dict[str, Any]:
        """Decode an unlocked body and check it; raises FormatError for any fault of the record."""
        if not plain and terms.action not in ORDERS:
            raise FormatError(f"no body, and {terms.action} has one")
        body = decode_body(plain, schema)  # (5)
        if issued_on is None:
            raise FormatError("issued_at is not a date")
        problems = check_received(
            schema.record_type,
            schema,
            terms,
            body,
            issued_on=issued_on,
            ceiling_days=channel.ceiling_days,
        )  # (6)
        if problems:
            # The text is cut, because a hostile record may break a rule once for each item of a long list.
            raise FormatError("; ".join(problems)[:1000])
        return self._current(schema, body) if body else body  # (7)

    def _current(self, schema: RecordSchema, body: dict[str, Any]) -> dict[str, Any]:
        """Project a body onto the current schema of its record type."""
        if schema.id not in self._projections:
            # The rules are those of Avro 1.11, "Schema Resolution", as far as ``broker.avro.projection``
            # follows them.
            current = self.store.current(schema.record_type)
            is_current = current.id == schema.id
            self._projections[schema.id] = None if is_current else projection(schema.schema, current.schema)
        project = self._projections[schema.id]
        projected: dict[str, Any] = body if project is None else project(body)
        return projected

    def _blame(self, kind: Kind, batch: VerifiedBatch, detail: str, index: int | None = None) -> Violation:
        """Blame the issuer for the batch, or for one record of it."""
        if index is None:
            place = Place(batch.topic, batch.partition, batch.offset)
        else:
            place = body_place(batch, index)
            detail = f"record {index}: {detail}"
        return Violation(kind=kind, place=place, detail=f"'{batch.header.issuer}': {detail}")


def _date(time_us: int) -> date | None:
    """Return the date of a signed time; None for a time that no calendar has, which an issuer may sign."""
    day = day_of(time_us)
    return EPOCH + timedelta(days=day) if 0 <= day <= _LAST_DAY else None
