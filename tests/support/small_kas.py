"""A key access service in one page: it decides and answers as the real one, and logs nothing."""

from __future__ import annotations

from broker.access.answers import Outcome, RecordRef, encode_answer, receipt_outcomes
from broker.access.policy import RecordEntry, RecordState, decide
from broker.access.requests import check_query, check_request
from broker.crypto.lock import context_of, release_shares
from broker.crypto.seal import answer_info, open_sealed, release_info, seal
from broker.exchange.clock import system_clock
from broker.exchange.follower import DirectoryFollower
from broker.exchange.keyring import Keyring
from broker.exchange.reader_set import partition_reader
from broker.exchange.reading import read_events
from broker.formats.access import CollectionAnswer, EntryRef, Receipt
from broker.formats.batch import sign_content
from broker.formats.manifest import Collected, CollectionStatus, Reason, RecordItem, Verdict
from broker.formats.protocol import encode
from broker.formats.terms import RecordTerms
from broker.log import Log, Partition
from broker.verify.partition import VerifiedBatch
from support.coalition import KAS, receiving_key, signing_key

__all__ = ["SmallKas"]


class SmallKas:
    """Answers requests from what the log holds now."""

    def __init__(self, log: Log, follower: DirectoryFollower) -> None:
        self.log = log
        self.follower = follower
        self.keyring = Keyring.of(KAS, signing_key(KAS), [receiving_key(KAS)])
        self.batches: dict[bytes, VerifiedBatch] = {}
        self.readers: dict[Partition, object] = {}
        self.requests = 0

    @classmethod
    async def start(cls, log: Log, genesis: bytes) -> SmallKas:
        return cls(log, await DirectoryFollower.start(log, genesis))

    async def _apply(self, channel_name: str) -> None:
        await self.follower.refresh()
        channel = self.follower.history.latest.channels[channel_name]
        for topic in ("returns", "relocation", "rehabilitation", "emergence", "justice"):
            partition = Partition(topic, channel.number)
            reader = self.readers.get(partition)
            if reader is None:
                reader = partition_reader(topic, channel, self.follower, self.keyring)
                self.readers[partition] = reader
            end = (await self.log.ends([partition]))[partition]
            async for event in read_events(self.log, reader, self.follower, end=end):  # type: ignore[arg-type]
                if isinstance(event, VerifiedBatch):
                    self.batches[event.batch_id] = event

    async def access(self, request: bytes, details: bytes) -> bytes:
        self.requests += 1
        await self.follower.refresh()
        checked = check_request(request, details, self.follower.history, system_clock())
        await self._apply(checked.request.channel)
        directory = self.follower.history.latest
        outcomes: dict[RecordRef, Outcome] = {}
        shares: dict[RecordRef, bytes] = {}
        for place, item in enumerate(checked.request.items):
            assert isinstance(item, RecordItem)
            batch = self.batches.get(item.batch_id)
            for i in item.indexes:
                ref = RecordRef(place, i)
                if batch is None or batch.offset != item.offset or i >= batch.opened.manifest.count:
                    outcomes[ref] = Outcome(Verdict.DENIED, Reason.UNKNOWN_RECORD, False)
                    continue
                terms = batch.opened.entries.terms[batch.opened.entries.term_of[i]]
                assert isinstance(terms, RecordTerms)
                header = batch.header
                entry = RecordEntry(
                    topic=header.topic,
                    partition=header.partition,
                    epoch=header.epoch,
                    issuer=header.issuer,
                    record_type=batch.opened.manifest.record_type,
                    terms=terms,
                )
                state = RecordState(status=CollectionStatus.COLLECTED)
                decision = decide(checked.request, entry, directory, state, system_clock())
                released = decision.verdict is Verdict.ALLOWED
                outcomes[ref] = Outcome(decision.verdict, decision.reason, released)
                if released:
                    shares[ref] = self._share(batch, i)
        channel = directory.channels[checked.request.channel]
        receipt = Receipt(
            issuer=KAS,
            issued_at=system_clock(),
            request_digest=checked.digest,
            entry=EntryRef(batch_id=bytes(32), partition=channel.number, offset=0, index=0),
            outcomes=receipt_outcomes(outcomes),
        )
        signed = sign_content(self.keyring.signing, "receipt", directory.genesis, encode(receipt))
        _, public = directory.receiving_key(checked.request.issuer)
        return seal(public, encode_answer(signed, shares, ()), answer_info(checked.digest))

    def _share(self, batch: VerifiedBatch, index: int) -> bytes:
        manifest, header = batch.opened.manifest, batch.header
        genesis = self.follower.history.latest.genesis
        context = context_of(
            genesis, header.topic, header.partition, header.epoch, header.issuer, manifest.manifest_id
        )
        days = self.follower.history.latest.intake_keys
        key = receiving_key(f"intake {days[manifest.intake_key_id].day}")
        secret = open_sealed(key, manifest.release_seal, release_info(context, manifest.intake_key_id))
        return release_shares(context, secret, [index])[0]

    async def collections(self, query: bytes) -> bytes:
        await self.follower.refresh()
        checked = check_query(query, self.follower.history, system_clock())
        await self._apply(checked.query.channel)
        found = []
        for ref in checked.query.batches:
            known = ref.batch_id in self.batches
            status = CollectionStatus.COLLECTED if known else CollectionStatus.UNKNOWN
            found.append(
                Collected(
                    topic=ref.topic,
                    offset=ref.offset,
                    batch_id=ref.batch_id,
                    count=1,
                    status=status,
                    detail="",
                )
            )
        answer = CollectionAnswer(
            issuer=KAS, issued_at=system_clock(), query_digest=checked.digest, batches=tuple(found)
        )
        genesis = self.follower.history.latest.genesis
        return encode(sign_content(self.keyring.signing, "collection-answer", genesis, encode(answer)))
