"""The story of the demo, chapter by chapter, and what it counts.

Each method of ``Story`` plays one chapter and then tells it, in the order in which they stand here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.access.client import KeyAccess
from broker.cli.demo.acts import Actor, FeedResult, Found, PublishResult, Wish
from broker.cli.demo.forgery import Forgery, forge
from broker.cli.demo.founding import found_world
from broker.cli.demo.narrator import Narrator
from broker.cli.demo.proof import Audit, replay
from broker.cli.demo.world import (
    AUDITOR,
    CHANNELS,
    COURTS,
    FILES,
    PARTICIPANTS,
    PROTECTION,
    STATES,
    World,
)
from broker.errors import UsageError
from broker.session import Role
from broker.show.meanings import reason_meaning
from broker.show.record_view import record_rows
from broker.subscribe.asking import Ground
from broker.subscribe.delivery import Delivered, NotDelivered
from broker.wire.terms import HandlingCode, Purpose

__all__ = ["Story"]

_SHOWN = ("type", "attention", "purpose", "handling", "issued by")
"""Rows of the consulted record that are shown; all of them would be too long for a story."""


@dataclass(slots=True)
class Story:
    """The chapters, and what has been counted so far.

    The counts are written by the chapters alone; ``consulted`` is the id of the record that chapter 5 read.
    """

    narrator: Narrator
    published: int = 0
    rejected: int = 0
    delivered: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    consulted: str = ""

    async def found(self, folder: Path, log: str) -> World:
        """Play chapter 1: the authority founds the coalition and opens its channels."""
        world = await found_world(folder, log)
        self.narrator.chapter(
            "Four states found a coalition",
            f"The states are {', '.join(STATES.values())}. Their authority has three keys, of which two must "
            f"sign together. It admits {_agency_count()} agencies, a key access service and an auditor, and "
            "each of them has made its own keys. It opens channels, whose keys come from a member, never "
            "from the authority.",
        )
        rows = [
            (
                channel.name,
                str(len(channel.members)),
                ", ".join(channel.record_types),
                ", ".join(channel.purposes),
            )
            for channel in CHANNELS
        ]
        self.narrator.table(("channel", "members", "records", "purposes"), rows, right=("members",))
        return world

    async def publish(self, world: World, kas: KeyAccess) -> None:
        """Play chapter 2: the agencies publish their files."""
        results: list[PublishResult] = []
        for plan in FILES:
            # One agency after the other: batches then have the same places in every run, which ``forgery``
            # relies on.
            async with Actor.enter(world, plan.agency, kas) as actor:
                results.append(await actor.publish(plan))
        self.published = sum(result.published for result in results)
        self.rejected = sum(len(result.rejects) for result in results)
        self.narrator.chapter(
            "They publish",
            "The agencies publish the return of 100 people, half of them children, and what police, courts "
            "and rehabilitation know. Names and passport numbers stay in the files: the mapping drops them. "
            "Each batch is signed once, and each record is locked under a key that nobody holds alone.",
        )
        rows = [
            (
                result.plan.agency,
                result.plan.channel,
                result.plan.file,
                str(result.published),
                str(len(result.rejects)),
            )
            for result in results
        ]
        columns = ("agency", "channel", "file", "published", "rejected")
        self.narrator.table(columns, rows, right=("published", "rejected"))
        self._tell_rejects(results)

    def _tell_rejects(self, results: Sequence[PublishResult]) -> None:
        for result in results:
            for line, problems in result.rejects:
                more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
                self.narrator.bad(f"rejected, row {line}: {_short(problems[0])}{more}")

    async def justice_feed(self, world: World, kas: KeyAccess) -> None:
        """Play chapter 3: a ministry of justice subscribes under its mandate."""
        ground = Ground.disclosure(
            "xbb-xdd",
            Purpose.PROSECUTION,
            mandate=COURTS.ref,
            role="case management system",
            legal_basis="Mutual Legal Assistance Treaty, article 3",
            justification="nightly feed of the court registry",
        )
        feed = await self._feed(world, COURTS.agency, kas, ground)
        measures = Counter(str(item.record.body.get("measure")) for item in feed.delivered)
        self.narrator.chapter(
            "A justice team's feed",
            f"The ministry of justice of Dorvale subscribes under its mandate {COURTS.ref}. Before "
            "anything is unlocked, the key access service has logged who reads what, and why.",
        )
        self.narrator.good(f"{len(feed.delivered)} measures delivered: {_listed(measures)}")
        self._tell_denied(feed.denied)

    async def protection_feed(self, world: World, kas: KeyAccess) -> None:
        """Play chapter 4: a child protection agency reads what was shared for children only."""
        ground = Ground.disclosure(
            "repatriation",
            Purpose.CHILD_PROTECTION,
            mandate=PROTECTION.ref,
            role="case management system",
            legal_basis="Child Protection Act of Cassarine, section 4",
            justification="preparing the reception of children",
        )
        feed = await self._feed(world, PROTECTION.agency, kas, ground, ("ReturnEvent",))
        ages = Counter(str(item.record.body["subject"]["age_band"]) for item in feed.delivered)
        self.narrator.chapter(
            "The child protection agency's feed",
            "The agency reads the returns of children. It also reads those of people of unknown age, who "
            "are protected as children are. It cannot read what was shared to reintegrate adults.",
        )
        self.narrator.good(f"{len(feed.delivered)} returns delivered: {_listed(ages)}")
        self._tell_denied(feed.denied)

    async def _feed(
        self,
        world: World,
        agency: str,
        kas: KeyAccess,
        ground: Ground,
        record_types: tuple[str, ...] | None = None,
    ) -> FeedResult:
        async with Actor.enter(world, agency, kas) as actor:
            feed = await actor.feed(ground, record_types)
        self._count(len(feed.delivered), feed.denied)
        return feed

    async def consult(self, world: World, kas: KeyAccess) -> None:
        """Play chapter 5: an officer reads one record."""
        ground = Ground.consultation(
            "xaa-xbb",
            Purpose.INVESTIGATION,
            person="BV-4711",
            role="investigator",
            legal_basis="Police Treaty, article 12",
            case_reference="BV-2026-0815",
            justification="The person may have crossed the border at Kestrel Bridge last week.",
        )
        async with Actor.enter(world, "XBB:police", kas) as actor:
            item = await actor.consult(await actor.find(Wish(channel="xaa-xbb", topic="emergence")), ground)
        if not isinstance(item, Delivered):
            raise UsageError(f"the demo's consultation was not answered: {item}")
        self._count(1, Counter())
        rows = record_rows(item)
        # The name "record" stands once among the rows, so the dictionary loses nothing of it.
        self.consulted = dict(rows)["record"]
        self.narrator.chapter(
            "A consultation",
            "An officer of Borvenia's police reads one report for case BV-2026-0815. Others know the officer "
            "by a pseudonym only. Before the report opens, the access log holds who reads it and why, locked "
            f"for those who may know it by law: “{ground.details().justification}”",
        )
        self.narrator.table(("field", "value"), [row for row in rows if row[0] in _SHOWN])

    async def denials(self, world: World, kas: KeyAccess) -> None:
        """Play chapter 6: three requests that must be denied."""
        self.narrator.chapter(
            "Three requests that are denied",
            "The first comes from an agency outside the channel, which learns nothing but no. The second "
            "comes from a member with the wrong purpose. The third comes from a court, and the provider "
            "does not permit use in court (handling code H1).",
        )
        rows = []
        for name, finder, wish, purpose in _DENIALS:
            async with Actor.enter(world, finder, kas) as member:
                # An agency outside the channel sees no manifest, so a member looks the record up for it.
                found = await member.find(wish)
            async with Actor.enter(world, name, kas) as actor:
                # A denial is an expected answer here. It is logged like any access, and the audit replays it.
                reason = await _refused(actor, found, wish.channel, purpose)
            self._count(0, Counter([reason]))
            rows.append((name, wish.channel, purpose.value, reason, reason_meaning(reason).text))
        self.narrator.table(("who", "channel", "purpose", "denied", "because"), rows)

    async def audit(self, world: World) -> Audit:
        """Play chapter 7: the auditor replays both logs."""
        audit = await replay(world.profiles[AUDITOR])
        self.narrator.chapter(
            "The auditor replays",
            "The auditor's keys open no record. With them the auditor replays both logs from the first "
            "message, checks every signature and every digest, and decides every access once more.",
        )
        if audit.verified:
            self.narrator.good(
                f"verified: {audit.records} records in {audit.manifests} batches, {audit.access_entries} "
                "access entries, 0 violations"
            )
        else:
            self.narrator.bad(f"NOT verified: {audit.violations} violations. This is a bug of the demo:")
            for line in audit.lines:
                self.narrator.bad(line)
        return audit

    async def forgery(self, world: World) -> tuple[Forgery, Audit]:
        """Play chapter 8: the auditor replays a forged copy of the log."""
        forgery = await forge(world)
        audit = await replay(forgery.profile)
        self.narrator.chapter(
            "A forger is found out",
            "Somebody who can write to the disk changes one bit of one child's record, in a copy of the log. "
            "The auditor replays the copy.",
        )
        # The place alone would not do: the audit must name it as the only root.
        if audit.roots == (forgery.place,):
            self.narrator.good(f"found, and named: {audit.lines[0]}")
            self.narrator.say("Everything else that is wrong follows from it, and says so:")
        else:
            self.narrator.bad("the manipulation was NOT found at its place. This is a bug of the demo:")
        self.narrator.table(("where", "what is wrong", "follows from"), audit.rows)
        return forgery, audit

    def _count(self, delivered: int, denied: Counter[str]) -> None:
        self.delivered += delivered
        # Plain texts as keys, because the counts are printed as JSON.
        self.denied.update({str(reason): count for reason, count in denied.items()})

    def _tell_denied(self, denied: Counter[str]) -> None:
        for reason, count in denied.items():
            self.narrator.bad(f"{count} denied, {reason}: {reason_meaning(reason).text}")


_DENIALS = (
    # The agency that asks, the member that tells it where the record is, the record, and the purpose.
    ("XBB:police", "XBB:justice", Wish(channel="xbb-xdd", topic="justice"), Purpose.PROSECUTION),
    (
        "XCC:border",
        "XCC:border",
        Wish(channel="repatriation", topic="returns", purpose=Purpose.CHILD_PROTECTION),
        Purpose.INVESTIGATION,
    ),
    (
        "XBB:justice",
        "XBB:justice",
        Wish(channel="repatriation", topic="relocation", code=HandlingCode.H1),
        Purpose.PROSECUTION,
    ),
)


async def _refused(actor: Actor, found: Found, channel: str, purpose: Purpose) -> str:
    """Ask for a record that this actor may not have, and return the reason of the denial."""
    ground = Ground.consultation(
        channel,
        purpose,
        person="staff-12",
        role="officer",
        legal_basis="none that holds",
        case_reference="EX-1",
        justification="An exercise: this must be denied.",
    )
    item = await actor.consult(found, ground)
    if not isinstance(item, NotDelivered):
        raise UsageError(f"the request for {item.place} was answered, expected a denial")
    return str(item.reason)


def _agency_count() -> int:
    return sum(role is Role.AGENCY for role, _ in PARTICIPANTS.values())


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in counts.most_common())


def _short(problem: str) -> str:
    """Return a reason without what was expected and the law, which the file of rejects holds."""
    # A problem reads "what is wrong, expected …, got …" (broker.records.words.said).
    return problem.split(", expected", 1)[0]
