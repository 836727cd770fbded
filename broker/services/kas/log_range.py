"""Ranges of the access log as an answer carries them: each entry as evidence that proves itself.

``broker.access.log_evidence`` checks them at the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import NamedTuple

from broker.access.answers import Outcome, RecordRef
from broker.access.late_entries import LostBatch, lost_batches
from broker.access.log_evidence import MAX_ENTRIES_BYTES, entries_size
from broker.access.record_states import ChannelRecords
from broker.access.request_checks import CheckedRequest
from broker.crypto.lock import body_key, context_of, release_share
from broker.crypto.merkle import inclusion_path
from broker.directory import EpochKey
from broker.errors import FormatError
from broker.services.kas.channel_state import ChannelState
from broker.services.kas.entries import access_release_secret, month_of
from broker.services.kas.keystore import KeyStore
from broker.services.kas.resources import Resources
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import ReaderState, VerifiedBatch
from broker.wire.access import AccessRequest, Enclosing, LogEntry
from broker.wire.encoding import decode
from broker.wire.entry import entry_bytes, leaf_hashes
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import AccessTerms, DenialTerms, ErasureTerms, LateTerms, LogItem, RecordItem, Terms

__all__ = ["concerns", "requested_entries"]


def concerns(name: str, terms: Terms, records: ChannelRecords) -> bool:
    """Whether an entry concerns a member: its own requests and denials, and access to records it issued."""
    match terms:
        case AccessTerms():
            try:
                request = decode(AccessRequest, terms.request.content)
            except FormatError:
                return False
            batches = [item.batch_id for item in request.items if isinstance(item, RecordItem)]
            return request.issuer == name or any(_issued(name, batch, records) for batch in batches)
        case DenialTerms():
            return terms.agency == name
        case ErasureTerms():
            return any(_issued(name, target.batch_id, records) for target in terms.targets)
        case _:
            return False


def _issued(name: str, batch_id: bytes, records: ChannelRecords) -> bool:
    batch = records.batch(batch_id)
    return batch is not None and batch.issuer == name


async def requested_entries(
    resources: Resources,
    state: ChannelState,
    checked: CheckedRequest,
    outcomes: Mapping[RecordRef, Outcome],
) -> tuple[LogEntry, ...]:
    """Return the entries of the range that a request names, if it was released.

    Auditors get all of them, members the entries that concern them.
    """
    request = checked.request
    if not any(isinstance(item, LogItem) for item in request.items):
        return ()
    is_auditor = request.issuer in resources.directory.channels[request.channel].auditors

    def is_wanted(terms: Terms) -> bool:
        return is_auditor or concerns(request.issuer, terms, state.records)

    found: tuple[LogEntry, ...] = ()
    for ref, outcome in outcomes.items():
        item = request.items[ref.item]
        if isinstance(item, LogItem) and outcome.released:
            found += await _read_range(resources, state, item, is_wanted)
    return found


async def _read_range(
    resources: Resources, state: ChannelState, item: LogItem, is_wanted: Callable[[Terms], bool]
) -> tuple[LogEntry, ...]:
    """Return the wanted entries of a range. Those of a month whose key was destroyed have no body key."""
    participant = resources.participant
    reader = participant.reader(
        resources.directory.channels[state.name],
        ACCESS_TOPIC,
        state=ReaderState(next_offset=item.start, mark=state.access_mark(item.start)),
    )
    found: list[LogEntry] = []
    size = 0
    end = state.access.settled_offset
    # A batch that begins in the range is read to its end, even where the range stops within it.
    async with aclosing(participant.read(reader, end=end)) as events:
        async for event in events:
            if not isinstance(event, VerifiedBatch):
                continue
            if event.offset >= item.end or size > MAX_ENTRIES_BYTES:
                break
            for stored in _stored_batches(event, resources, state):
                for entry in _entries(stored, event.offset, resources, state, is_wanted):
                    found.append(entry)
                    size += entries_size((entry,))
    return tuple(found)


class _Stored(NamedTuple):
    """A batch of the access log: one that stands there, or one ``within`` LATE entries."""

    opened: OpenedManifest
    bodies: tuple[bytes, ...]
    within: tuple[Enclosing, ...]


def _stored_batches(batch: VerifiedBatch, resources: Resources, state: ChannelState) -> Iterator[_Stored]:
    """Yield a batch, and the batches that came back in its LATE entries."""
    yield _Stored(batch.opened, batch.bodies, ())
    for index, term in enumerate(batch.opened.entries.term_of):
        terms = batch.opened.entries.terms[term]
        if not isinstance(terms, LateTerms):
            continue
        outermost = _enclosing(batch.opened, index)
        for lost in lost_batches(
            terms.messages,
            history=resources.participant.follower.history,
            partition=state.number,
            keys=state.access_key,
        ):
            if isinstance(lost, LostBatch):
                inner = [_enclosing(around.opened, at) for around, at in lost.within]
                yield _Stored(lost.opened, lost.bodies, (outermost, *inner))


def _enclosing(opened: OpenedManifest, index: int) -> Enclosing:
    return Enclosing(
        index=index,
        manifest=opened.signed,
        entry=entry_bytes(opened.entries, index),
        path=inclusion_path(leaf_hashes(opened.entries), index),
    )


def _entries(
    stored: _Stored,
    offset: int,
    resources: Resources,
    state: ChannelState,
    is_wanted: Callable[[Terms], bool],
) -> Iterator[LogEntry]:
    entries = stored.opened.entries
    indexes = [index for index, term in enumerate(entries.term_of) if is_wanted(entries.terms[term])]
    if not indexes:
        return
    leaves = leaf_hashes(entries)
    for index in indexes:
        yield LogEntry(
            offset=offset,
            index=index,
            manifest=stored.opened.signed,
            entry=entry_bytes(entries, index),
            path=inclusion_path(leaves, index),
            body=stored.bodies[index],
            body_key=_body_key(stored, index, resources.genesis, state.access_key, resources.keystore),
            within=stored.within,
        )


def _body_key(
    batch: _Stored,
    index: int,
    genesis: bytes,
    keys: Callable[[int], EpochKey | None],
    store: KeyStore,
) -> bytes | None:
    manifest = batch.opened.manifest
    header = manifest.header
    place = (header.topic, header.partition, header.epoch, header.issuer, manifest.manifest_id)
    context = context_of(genesis, *place)
    try:
        month_key = store.kept_access_key(month_of(header.issued_at), header.partition)
    except (ValueError, OverflowError, OSError):
        return None  # A thief of our key may sign a time that no calendar has: no month has its key.
    epoch_key = keys(header.epoch)
    if month_key is None or epoch_key is None:
        return None
    share = epoch_key.keys.member_share(context)
    release = release_share(context, access_release_secret(month_key, context), index)
    return body_key(context, share, index, release)
