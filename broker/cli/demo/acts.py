"""What the agencies of the demo do: they publish files, subscribe, find a record and consult it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from broker.access.client import KeyAccess
from broker.cli.demo.world import PublishPlan, World
from broker.cli.opening import open_session
from broker.errors import RecordInvalid, UsageError
from broker.log import Partition
from broker.publish.publisher import Publisher
from broker.records.record import from_json
from broker.session import Session
from broker.subscribe.asking import Ground
from broker.subscribe.consultation import consult
from broker.subscribe.delivery import Delivered, Delivery, NotDelivered
from broker.subscribe.subscriber import Subscriber
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import CollectionStatus
from broker.wire.terms import HandlingCode, Purpose, RecordTerms
from connectors.input_file import InputFile
from connectors.lines import RowProblem
from connectors.rejects import Rejects

__all__ = ["Actor", "FeedResult", "Found", "PublishResult", "Wish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """What became of a file: counts of durable records, and the rejected rows with every reason."""

    plan: PublishPlan
    published: int
    batches: int
    collected: int
    rejects: tuple[tuple[int, tuple[str, ...]], ...]
    """Numbers of rejected rows, and what is wrong with each."""


@dataclass(slots=True, kw_only=True)
class FeedResult:
    """What a subscription delivered, and how many records were denied for which reason."""

    delivered: list[Delivered] = field(default_factory=list)
    denied: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Found:
    """A record in a verified batch. Its body is still locked."""

    batch: VerifiedBatch
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A record that somebody looks for, by the terms that every member can see in its manifest."""

    channel: str
    topic: str
    purpose: Purpose | None = None
    code: HandlingCode | None = None

    def fits(self, terms: RecordTerms) -> bool:
        """Tell whether a record's terms are those that are wished for."""
        return self.purpose in (None, terms.purpose) and (
            self.code is None or self.code in terms.handling.codes
        )


@dataclass(frozen=True, slots=True)
class Actor:
    """An agency at work, and the key access service that it asks."""

    world: World
    session: Session
    kas: KeyAccess

    @classmethod
    @asynccontextmanager
    async def enter(cls, world: World, name: str, kas: KeyAccess) -> AsyncIterator[Actor]:
        """Open the session of the agency of this name, until the block ends."""
        async with open_session(world.profiles[name]) as session:
            yield cls(world, session, kas)

    async def publish(self, plan: PublishPlan) -> PublishResult:
        """Publish a file. Rows that break a rule are written to a file of rejects beside it."""
        session = self.session
        examples = self.world.examples
        source = InputFile.open(
            examples / plan.file,
            record_type=plan.record_type,
            mapping_path=examples / plan.mapping if plan.mapping else None,
            file_format=None,
            store=session.store,
        )
        channel = session.directory.channels[plan.channel]
        today = datetime.now(UTC).date()
        tickets = []
        problems: list[tuple[int, tuple[str, ...]]] = []
        publisher = Publisher(session.participant)
        # The rejects enclose the publisher: they are written out even when the last batch fails.
        with Rejects(source.rejects_path) as rejects:
            async with publisher:
                for line, row in source.rows():
                    try:
                        if isinstance(row, RowProblem):
                            # A line that cannot be read is rejected in the same way as a record that breaks a
                            # rule.
                            raise RecordInvalid(row.problems)
                        record = from_json(
                            plan.record_type,
                            row,
                            store=session.store,
                            today=today,
                            ceiling_days=channel.ceiling_days,
                        )
                        # The ticket is awaited after the loop. Awaited here, each record would become a batch
                        # of its own.
                        tickets.append(await publisher.publish(plan.channel, record))
                    except RecordInvalid as error:
                        rejects.add(line, error.problems, None if isinstance(row, RowProblem) else row)
                        problems.append((line, error.problems))
                await publisher.flush()
                # A ticket ends when its batch is durable, so these are counts of durable records.
                published = [await ticket for ticket in tickets]
                # Later chapters read these records, and the service releases only what it has taken over.
                answered = await publisher.collected(published, self.kas)
        collected = sum(batch.status is CollectionStatus.COLLECTED for batch in answered)
        return PublishResult(
            plan=plan,
            published=len(published),
            batches=len({record.batch_id for record in published}),
            collected=collected,
            rejects=tuple(problems),
        )

    async def feed(self, ground: Ground, record_types: tuple[str, ...] | None = None) -> FeedResult:
        """Read everything that a subscription delivers up to now, and keep its position for the next time."""
        session = self.session
        result = FeedResult()
        state = session.profile.state
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        subscriber = Subscriber(
            session.participant,
            self.kas,
            ground=ground,
            record_types=record_types,
            # A position of the demo's own. A subscription that the user tries later begins at the first
            # record.
            state_path=state / f"demo-{ground.channel}.json",
        )
        async with subscriber, aclosing(subscriber.deliveries()) as items:
            async for item in items:
                match item:
                    case Delivered():
                        result.delivered.append(item)
                    case NotDelivered():
                        result.denied[item.reason] += 1
                    case _:
                        # A violation, which this log cannot have: the forgery is made in a copy, later.
                        raise UsageError(f"the demo's own log is wrong at {item.place}: {item.detail}")
        return result

    async def find(self, wish: Wish) -> Found:
        """Return the first record whose terms fit. Raises UsageError when there is none."""
        participant = self.session.participant
        channel = participant.directory.channels[wish.channel]
        # This opens manifests alone. No body is unlocked, so looking for a record is no access that is
        # logged.
        reader = participant.reader(channel, wish.topic)
        # The end is fixed before reading: a search for a record that is not there must come to an end.
        end = await participant.end_of(Partition(wish.topic, channel.number))
        async with aclosing(participant.read(reader, end=end)) as events:
            async for event in events:
                if isinstance(event, VerifiedBatch):
                    entries = event.opened.entries
                    for index, term in enumerate(entries.term_of):
                        terms = entries.terms[term]
                        if isinstance(terms, RecordTerms) and wish.fits(terms):
                            return Found(event, index)
        raise UsageError(f"no record of '{wish.channel}' fits")

    async def consult(self, found: Found, ground: Ground) -> Delivery:
        """Ask for one record: the access is logged first, then the record is unlocked, or denied."""
        consultation = await consult(
            self.session.participant,
            self.kas,
            ground=ground,
            batch=found.batch,
            index=found.index,
            receipts=self.session.profile.consultations,
            kas_timeout_s=30,
        )
        return consultation.delivery
