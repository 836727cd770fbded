"""The search for one record in its channel: it reads the manifests, and no body is opened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from broker.cli.progress_bar import progress
from broker.crypto.log_tree import LogTree
from broker.directory import Channel
from broker.log.protocol import Partition
from broker.session import Session
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Place
from broker.wire.manifest import TopicHead
from broker.wire.terms import RecordTerms

__all__ = ["Found", "LaterAction", "Wish", "find"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The record that is looked for: by its own id, or by its batch and its place in it."""

    record_id: bytes | None = None
    batch_id: bytes | None = None
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record in its verified batch; ``seen`` is how much was read of its partition, and its root."""

    batch: VerifiedBatch
    index: int
    seen: TopicHead | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterAction:
    """A later record by which the originator acts on this one."""

    action: str
    batch_id: bytes
    index: int
    place: Place


@dataclass(slots=True)
class _Search:
    wish: Wish
    found: list[Found] = field(default_factory=list)
    actions: list[tuple[bytes, int, str, LaterAction]] = field(default_factory=list)
    """Every action on earlier records: batch and index of the target, the issuer, and the action."""

    def look_at(self, batch: VerifiedBatch) -> None:
        entries = batch.opened.entries
        for i in self._places(batch):
            self.found.append(Found(batch=batch, index=i))
        for number, terms in enumerate(entries.terms):
            if not isinstance(terms, RecordTerms) or not terms.targets:
                continue
            place = Place(batch.topic, batch.partition, batch.offset)
            # Terms are written once for all entries that share them: each of those entries is an action.
            for i in (i for i, of in enumerate(entries.term_of) if of == number):
                action = LaterAction(action=terms.action.value, batch_id=batch.batch_id, index=i, place=place)
                issuer = batch.header.issuer
                # Actions on every record are kept. Topics are read one after the other, so an action may come
                # before its target is found.
                self.actions += [(target.batch_id, target.index, issuer, action) for target in terms.targets]

    def later_actions_on(self, record: Found) -> list[LaterAction]:
        """Return the later actions of the record's own originator on it."""
        # Who acts is compared as well: an action on another agency's record has no effect, and is not shown.
        wanted = (record.batch.batch_id, record.index, record.batch.header.issuer)
        return [
            action for batch_id, index, issuer, action in self.actions if (batch_id, index, issuer) == wanted
        ]

    def _places(self, batch: VerifiedBatch) -> list[int]:
        wish = self.wish
        if wish.record_id is not None:
            return batch.opened.entries.indexes_of(wish.record_id)
        is_there = batch.batch_id == wish.batch_id and wish.index < batch.opened.manifest.count
        return [wish.index] if is_there else []


async def find(session: Session, channel: Channel, wish: Wish) -> list[tuple[Found, list[LaterAction]]]:
    """Return every record that fits the wish, each with the later actions of its originator on it."""
    topics = sorted(
        {
            session.store.current(record_type).topic
            for record_type in session.store.record_types
            if record_type in channel.record_types
        }
    )
    partitions = [Partition(topic, channel.number) for topic in topics]
    participant = session.participant
    ends = await participant.log.ends(partitions)
    search = _Search(wish)
    seen: dict[str, TopicHead] = {}
    total = sum(ends.values())
    done = 0
    with progress("looking for the record", total) as moved:
        for partition in partitions:
            # The reader keeps bodies, because the batch that is found is opened from here without reading it
            # again.
            tree = LogTree()
            reader = participant.reader(channel, partition.topic, tree=tree)
            async for event in participant.read(reader, end=ends[partition]):
                if isinstance(event, VerifiedBatch):
                    search.look_at(event)
                    moved(done + reader.next_offset, total)
            done += ends[partition]
            if tree.root is not None:
                seen[partition.topic] = TopicHead(topic=partition.topic, size=tree.size, root=tree.root)
    return [
        (replace(record, seen=seen.get(record.batch.topic)), search.later_actions_on(record))
        for record in search.found
    ]
