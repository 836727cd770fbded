"""Delivery of one window: its records are asked for first, and then opened and handed over one by one.

    (1) the records to ask for are planned: those that are not done, of a wanted type, with a known schema
    (2) the key access service is asked, once for each issuer of the window's batches
    (3) its receipts are kept
    (4) each record is opened, handed over and, when the consumer asks for the next one, done

A record is unlocked only when its turn comes. When a consumer stops early, nobody here has read the records
that it was not handed, although the log says that they were released.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass

from broker.avro.schema import RecordSchema
from broker.directory import Channel, Directory
from broker.errors import KasUnavailable
from broker.log.outage import Outage
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.subscribe.asking import Asker, RightAnswer, Selection, WrongAnswer
from broker.subscribe.delivery import READER_TOO_OLD, Delivery, Opener, Release, not_delivered
from broker.subscribe.log_watch import SignedHeads
from broker.subscribe.progress import Progress
from broker.subscribe.reader_set import Window
from broker.verify.partition import VerifiedBatch
from broker.verify.violations import Kind, Place, Violation

__all__ = ["WindowDelivery"]

_log = get_logger("broker.subscribe")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with one batch; ``schema`` is what ``Opener.schema_of`` returned."""

    batch: VerifiedBatch
    indexes: tuple[int, ...]
    schema: RecordSchema | Violation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowDelivery:
    """Delivers windows to one consumer; ``record_types`` are the types that it wants."""

    participant: Participant
    asker: Asker
    opener: Opener
    progress: Progress
    heads: SignedHeads
    record_types: frozenset[str]
    outage: Outage | None

    async def deliver(self, window: Window) -> AsyncGenerator[Delivery, None]:
        """Yield everything in the window that is not done, in order.

        Raises KasUnavailable, with nothing delivered but a violation, when the service answered wrongly.
        """
        progress = self.progress
        plans = self._plans(window)  # (1)
        wanted = {
            position: Selection(batch=plan.batch, indexes=plan.indexes)
            for position, plan in plans.items()
            if isinstance(plan.schema, RecordSchema)
        }
        releases: dict[int, Release] = {}
        for positions in _by_issuer(wanted):
            selections = [wanted[position] for position in positions]
            topics = {selection.batch.topic for selection in selections}
            seen = [head for topic, head in window.seen.items() if topic in topics]
            answer = await self.asker.ask(selections, self.outage, seen=seen)  # (2)
            if isinstance(answer, WrongAnswer):
                yield self._accusation(answer, selections[0])
                raise KasUnavailable(
                    f"the key access service answered wrongly: {answer.error.message}",
                    hint="nothing was delivered; report the violation, and ask again later",
                )
            self._keep(answer)  # (3)
            for violation in self._take_positions(answer):
                yield violation
            releases |= zip(positions, answer.releases, strict=True)
        # The directory is taken after the answers: checking an answer may have read it on, and its newest
        # keys are needed now.
        directory = self.participant.directory
        channel = self.participant.channel(self.asker.ground.channel)
        for position, (partition, event) in enumerate(window.events):
            if isinstance(event, Violation):
                if progress.is_news(partition, event):
                    yield event
                continue
            plan = plans.get(position)
            if plan is not None and isinstance(plan.schema, Violation):
                yield plan.schema
            elif plan is not None:
                for index, item in self._open(plan, releases.get(position), directory, channel):  # (4)
                    # This stands before the ``yield``: a consumer that commits while it holds the record says
                    # that this record is done.
                    progress.hand_over(partition, event.offset, index)
                    yield item
                    progress.finish()
                    progress.save_if_due()
            # A batch of a type that is not wanted is done too. A subscriber that wants more types later needs
            # a new state file.
            progress.finish_batch(partition, event)

    def _plans(self, window: Window) -> dict[int, _Plan]:
        """Plan each batch of a wanted type, by its position in the window."""
        plans: dict[int, _Plan] = {}
        for position, (partition, event) in enumerate(window.events):
            if isinstance(event, VerifiedBatch) and event.opened.manifest.record_type in self.record_types:
                indexes = self.progress.remaining(partition, event)
                if indexes:
                    plans[position] = _Plan(event, indexes, self.opener.schema_of(event))
        return plans

    def _open(
        self, plan: _Plan, release: Release | None, directory: Directory, channel: Channel
    ) -> Iterator[tuple[int, Delivery]]:
        batch = plan.batch
        if release is None or not isinstance(plan.schema, RecordSchema):
            return ((index, not_delivered(batch, index, READER_TOO_OLD)) for index in plan.indexes)
        return self.opener.open(
            batch, plan.indexes, release, schema=plan.schema, directory=directory, channel=channel
        )

    def _keep(self, answer: RightAnswer) -> None:
        """Keep the receipt; a receipt that cannot be kept raises, and then nothing is opened."""
        entry = answer.answer.entry
        _log.info(
            "records asked for",
            channel=self.asker.ground.channel,
            batches=len(answer.releases),
            released=sum(len(release.shares) for release in answer.releases),
            withheld=sum(len(release.withheld) for release in answer.releases),
            entry_offset=None if entry is None else entry.offset,
        )
        self.progress.keep(answer.prepared.signed, answer.answer.signed)

    def _take_positions(self, answer: RightAnswer) -> Iterator[Violation]:
        positions = answer.answer.receipt.positions
        entry = answer.answer.entry
        if positions is not None and entry is not None:
            yield from self.heads.take(positions, entry.partition, self.participant.directory.size)

    def _accusation(self, answer: WrongAnswer, first: Selection) -> Violation:
        batch = first.batch
        detail = f"'{self.participant.directory.kas_name}': {answer.error.message}"
        place = Place(batch.topic, batch.partition, batch.offset)
        return Violation(kind=Kind.RECEIPT_INVALID, place=place, detail=detail)


def _by_issuer(wanted: Mapping[int, Selection]) -> list[list[int]]:
    """Return the positions of each issuer's batches: a request names batches of one issuer only."""
    groups: dict[str, list[int]] = {}
    for position, selection in wanted.items():
        groups.setdefault(selection.batch.header.issuer, []).append(position)
    return list(groups.values())
