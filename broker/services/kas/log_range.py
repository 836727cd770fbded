"""A range of the access log as its answer carries it: each entry as evidence that stands by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing

from broker.access.answers import Outcome, RecordRef
from broker.access.log_evidence import MAX_ENTRIES_BYTES, entries_size
from broker.access.record_states import ChannelRecords
from broker.crypto.lock import body_key, context_of, release_share
from broker.crypto.merkle import inclusion_path
from broker.crypto.seal import member_share_info, open_sealed
from broker.directory import EpochKey
from broker.errors import FormatError, OpenError
from broker.services.kas.channel_reader import ChannelState
from broker.services.kas.channel_service import Means
from broker.services.kas.entries import access_release_secret, month_of
from broker.services.kas.keystore import KeyStore
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import ReaderState, VerifiedBatch
from broker.wire.access import AccessRequest, LogEntry
from broker.wire.encoding import decode
from broker.wire.entry import entry_bytes, leaf_hashes
from broker.wire.manifest import AccessTerms, DenialTerms, ErasureTerms, LogItem, RecordItem, Terms

__all__ = ["concerns", "requested_entries"]


def concerns(name: str, terms: Terms, records: ChannelRecords) -> bool:
    """Whether an entry concerns a member: its own requests and denials, and what it issued."""
    match terms:
        case AccessTerms():
            try:
                request = decode(AccessRequest, terms.request.content)
            except FormatError:
                return False
            batches = [item.batch_id for item in request.items if isinstance(item, RecordItem)]
            return request.issuer == name or any(_issued(name, one, records) for one in batches)
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
    means: Means, state: ChannelState, request: AccessRequest, outcomes: Mapping[RecordRef, Outcome]
) -> tuple[LogEntry, ...]:
    """The entries of the range that was asked for and released: all for auditors, else what concerns."""
    if not any(isinstance(item, LogItem) for item in request.items):
        return ()
    is_auditor = request.issuer in means.directory.channels[request.channel].auditors

    def is_wanted(terms: Terms) -> bool:
        return is_auditor or concerns(request.issuer, terms, state.records)

    found: tuple[LogEntry, ...] = ()
    for ref, outcome in outcomes.items():
        item = request.items[ref.item]
        if isinstance(item, LogItem) and outcome.released:
            found += await _read_range(means, state, item, is_wanted)
    return found


async def _read_range(
    means: Means, state: ChannelState, item: LogItem, wanted: Callable[[Terms], bool]
) -> tuple[LogEntry, ...]:
    """The wanted entries of the range; those whose month is erased go without a key."""
    participant = means.participant
    reader = participant.reader(
        means.directory.channels[state.name],
        ACCESS_TOPIC,
        state=ReaderState(next_offset=item.start, mark=state.access_mark(item.start)),
    )
    found: list[LogEntry] = []
    size, end = 0, state.access.settled_offset
    # A batch that begins in the range is read to its end, even where the range stops within it.
    async with aclosing(participant.read(reader, end=end)) as events:
        async for event in events:
            if not isinstance(event, VerifiedBatch):
                continue
            if event.offset >= item.end or size > MAX_ENTRIES_BYTES:
                break
            for entry in _entries(event, means.genesis, state.access_key, means.keystore, wanted):
                found.append(entry)
                size += entries_size((entry,))
    return tuple(found)


def _entries(
    batch: VerifiedBatch,
    genesis: bytes,
    keys: Callable[[int], EpochKey | None],
    store: KeyStore,
    wanted: Callable[[Terms], bool],
) -> Iterator[LogEntry]:
    entries = batch.opened.entries
    places = [i for i, term in enumerate(entries.term_of) if wanted(entries.terms[term])]
    if not places:
        return
    leaves = leaf_hashes(entries)
    for i in places:
        yield LogEntry(
            offset=batch.offset,
            index=i,
            manifest=batch.opened.signed,
            entry=entry_bytes(entries, i),
            path=inclusion_path(leaves, i),
            body=batch.bodies[i],
            body_key=_body_key(batch, i, genesis, keys, store),
        )


def _body_key(
    batch: VerifiedBatch,
    index: int,
    genesis: bytes,
    keys: Callable[[int], EpochKey | None],
    store: KeyStore,
) -> bytes | None:
    header, manifest = batch.header, batch.opened.manifest
    place = (header.topic, header.partition, header.epoch, header.issuer, manifest.manifest_id)
    context = context_of(genesis, *place)
    month_key = store.kept_access_key(month_of(header.issued_at), header.partition)
    epoch_key = keys(header.epoch)
    if month_key is None or epoch_key is None:
        return None
    try:
        share = open_sealed(epoch_key.key, manifest.member_seals[0].sealed, member_share_info(context))
    except OpenError:
        return None
    release = release_share(context, access_release_secret(month_key, context), index)
    return body_key(context, share, index, release)
