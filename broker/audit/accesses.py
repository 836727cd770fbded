"""Who read what, when and why.

An auditor sees with its own keys which entries the access log holds, so no entry can be kept from it. Person,
case and justification are locked. They come from the key access service, range by range, through the same six
steps as any record, and that reading is logged too; only ranges with wanted entries are asked for. The
answers are proved against the manifests and against the commitments of the requests.

A member is given the entries that concern it (``agency_entries``): who read what it shared, and what it
read itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from broker.access.client import KeyAccess
from broker.access.late_entries import LostBatch, lost_batches
from broker.access.log_evidence import open_log_entry
from broker.access.request_checks import MAX_LOG_RANGE
from broker.audit.agency_entries import AgencyEntries
from broker.audit.disclosures import Access, Disclosure, LogAsker, access_of, checked_details
from broker.avro.schema import default_store
from broker.directory import Channel
from broker.errors import Denied, FormatError, OpenError
from broker.log.protocol import Partition
from broker.participant.participant import Participant
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import VerifiedBatch
from broker.wire.access import AccessDetails, AccessRequest, LogEntry
from broker.wire.encoding import decode
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import AccessTerms, LateTerms, LogItem, RecordItem
from broker.wire.terms import Purpose

__all__ = ["Access", "Disclosure", "accesses"]


_Name = tuple[int, bytes, int]
"""The place of an entry, its batch and its index: batches within a LATE entry have one place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A wanted entry, before its details are known."""

    batch_id: bytes
    offset: int
    index: int
    is_lost: bool
    """Whether it came back in a LATE entry, which stands at ``offset``."""
    at: int
    terms: AccessTerms
    request: AccessRequest

    @property
    def name(self) -> _Name:
        """What names the entry in an answer of the service."""
        return self.offset, self.batch_id, self.index


async def accesses(
    participant: Participant,
    kas: KeyAccess,
    *,
    channels: Sequence[str] | None = None,
    record_id: bytes | None = None,
    agency: str | None = None,
    since: int | None = None,
    until: int | None = None,
    purpose: Purpose,
    details: Callable[[], AccessDetails],
) -> AsyncIterator[Access]:
    """Yield the accesses in these channels, each channel in the order of its log.

    By default these are the channels that we audit, and the open channels that we are a member of. In a
    closed channel a member can ask nothing, since its request could not be logged there.

    ``record_id`` narrows to one record, ``agency`` to one reader, ``since`` and ``until`` (exclusive) to a
    time, in microseconds. ``purpose`` is one of LOG_PURPOSES, and ``details`` says who asks and why; both
    are logged. Entries of one request count once: see ``Access.is_repeat``. Raises Denied where the service
    refuses a range; a PeerError convicts the service.
    """
    counting = _Counting()
    asker = LogAsker(participant, kas, purpose, details)
    reading = _Reading(asker)
    await participant.follower.refresh()
    for channel in _readable(participant, channels):
        records = None if record_id is None else await reading.find_record(channel, record_id)

        # ``records`` is bound as a default value: a plain closure would see the records of a later channel.
        def is_wanted(found: _Found | Access, records: Mapping[bytes, set[int]] | None = records) -> bool:
            return (
                agency in (None, found.request.issuer)
                and (since is None or found.at >= since)
                and (until is None or found.at < until)
                and (records is None or _touches(found.request, records))
            )

        if participant.name in channel.auditors:
            found = reading.read(channel, is_wanted)
        elif records == {}:
            continue  # The channel has no such record, so there is nothing to ask.
        else:
            found = AgencyEntries(asker).read(channel, since, is_wanted)
        async for access in found:
            counted = counting.take(access)
            if counted is not None:
                yield counted


class _Counting:
    """Counts the entries of one request once.

    A reader that lost an answer sends its request again, and the service decides it anew. An entry that
    repeats another one, with its decision, says nothing new. One with another decision is shown as a repeat.
    """

    def __init__(self) -> None:
        self._requests: set[bytes] = set()
        self._decided: set[tuple[bytes, bytes]] = set()

    def take(self, access: Access) -> Access | None:
        """Return the access as it counts, or None where it was there already."""
        digest = access.request_digest
        decided = (digest, sha256(repr(access.disclosures).encode()).digest())
        if decided in self._decided:
            return None
        self._decided.add(decided)
        if digest in self._requests:
            return replace(access, is_repeat=True)
        self._requests.add(digest)
        return access


def _readable(participant: Participant, channels: Sequence[str] | None) -> list[Channel]:
    name = participant.name
    ours = {
        channel.name: channel
        for channel in participant.directory.channels.values()
        if name in channel.auditors | channel.members
    }
    if channels is None:
        return [channel for _, channel in sorted(ours.items()) if name in channel.auditors or channel.is_open]
    if not ours.keys() >= set(channels):
        raise Denied(f"'{name}' neither audits nor is a member of all of {', '.join(channels)[:200]}")
    return [ours[channel] for channel in dict.fromkeys(channels)]


def _touches(request: AccessRequest, records: Mapping[bytes, set[int]]) -> bool:
    items = (item for item in request.items if isinstance(item, RecordItem))
    return any(not records.get(item.batch_id, set()).isdisjoint(item.indexes) for item in items)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads the access logs of channels that we audit."""

    asker: LogAsker

    async def _batches(self, channel: Channel, topic: str) -> AsyncIterator[VerifiedBatch]:
        participant = self.asker.participant
        reader = participant.reader(channel, topic, keep_bodies=False)
        end = await participant.end_of(Partition(topic, channel.number))
        async for event in participant.read(reader, end=end):
            if isinstance(event, VerifiedBatch):
                yield event

    async def find_record(self, channel: Channel, record_id: bytes) -> dict[bytes, set[int]]:
        """Find the batches and indexes that bear this record id; anyone may repeat an id."""
        found: dict[bytes, set[int]] = {}
        for topic in default_store().topics:
            async for batch in self._batches(channel, topic):
                if indexes := batch.opened.entries.indexes_of(record_id):
                    found.setdefault(batch.batch_id, set()).update(indexes)
        return found

    async def read(self, channel: Channel, is_wanted: Callable[[_Found], bool]) -> AsyncIterator[Access]:
        """Yield the wanted accesses of a channel, range by range."""
        window: list[_Found] = []
        async for batch in self._batches(channel, ACCESS_TOPIC):
            # The service answers for at most MAX_LOG_RANGE messages at once, so entries are collected up to
            # that range.
            if window and batch.offset >= window[0].offset + MAX_LOG_RANGE:
                for access in await self._complete(channel, window):
                    yield access
                window = []
            window += [found for found in self._found(channel, batch) if is_wanted(found)]
        for access in await self._complete(channel, window):
            yield access

    async def _complete(self, channel: Channel, window: Sequence[_Found]) -> list[Access]:
        """Ask for the details of the entries of one range, and return them as accesses."""
        known: dict[_Name, LogEntry] = {}
        if not window:
            return []
        wanted = {found.name for found in window}
        start = window[0].offset
        end = window[-1].offset + 1
        while not wanted <= known.keys():
            entries = await self.asker.ask(channel, LogItem(start=start, end=end))
            known |= {_name(entry): entry for entry in entries}
            # An entry that the service did not send is shown without details and not left out: its manifest
            # is in the log, and we opened that ourselves.
            if not entries or entries[-1].offset + 1 >= end:
                break
            # An answer is bounded, so we ask again behind its last entry.
            start = entries[-1].offset + 1
        there = {(entry.offset, entry.index): _name(entry) for entry in known.values() if not entry.within}
        for found in window:
            if not found.is_lost and there.get((found.offset, found.index), found.name) != found.name:
                raise OpenError(f"the entry answered for access@{found.offset} is not the one in the log")
        return [self._access(channel, found, known.get(found.name)) for found in window]

    def _found(self, channel: Channel, batch: VerifiedBatch) -> list[_Found]:
        """Return the accesses of a batch, and those that came back in its LATE entries."""
        found = _entries(batch.opened, batch.offset)
        for terms in batch.opened.entries.terms:
            if not isinstance(terms, LateTerms):
                continue
            for lost in lost_batches(
                terms.messages,
                history=self.asker.participant.follower.history,
                partition=channel.number,
                keys=self.asker.participant.epoch_keys(channel, ACCESS_TOPIC),
            ):
                if isinstance(lost, LostBatch):
                    found += _entries(lost.opened, batch.offset, is_lost=True)
        return found

    def _access(self, channel: Channel, found: _Found, entry: LogEntry | None) -> Access:
        details = None if entry is None else self._opened(channel, found, entry)
        return access_of(channel, found.offset, found.index, found.at, found.terms, found.request, details)

    def _opened(self, channel: Channel, found: _Found, entry: LogEntry) -> AccessDetails | None:
        """Open the details in an entry, and prove that it is the log's entry and what was committed to."""
        # The key of the entry's month was destroyed, and the details are gone with it.
        if entry.body_key is None:
            return None
        details = open_log_entry(entry, self.asker.participant.follower.history, channel.number).details
        return checked_details(details, found.request, found.offset)


def _name(entry: LogEntry) -> _Name:
    return entry.offset, sha256(entry.manifest.content).digest(), entry.index


def _entries(opened: OpenedManifest, offset: int, *, is_lost: bool = False) -> list[_Found]:
    """Return the accesses among a batch's entries; a replay reports the requests that do not decode."""
    found = []
    for index, term in enumerate(opened.entries.term_of):
        terms = opened.entries.terms[term]
        if not isinstance(terms, AccessTerms):
            continue
        try:
            request = decode(AccessRequest, terms.request.content)
        except FormatError:
            continue
        found.append(
            _Found(
                batch_id=opened.batch_id,
                offset=offset,
                index=index,
                is_lost=is_lost,
                at=opened.manifest.header.issued_at,
                terms=terms,
                request=request,
            )
        )
    return found
