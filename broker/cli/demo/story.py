"""The story that the demo plays, act by act, and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.access.client import KeyAccess
from broker.cli.demo.acts import Actor, Found, PublishResult, Wish, consultation, disclosure
from broker.cli.demo.forgery import Forgery, forge
from broker.cli.demo.founding import found_world
from broker.cli.demo.proof import Audit, replay
from broker.cli.demo.teller import Teller
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


@dataclass(slots=True)
class Story:
    """The acts, in their order, and what they count."""

    teller: Teller
    published: int = 0
    rejected: int = 0
    delivered: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    consulted: str = ""

    async def found(self, folder: Path, log: str) -> World:
        """Act 1."""
        world = await found_world(folder, log)
        tell = self.teller
        tell.chapter(
            "Four states found a coalition",
            f"{', '.join(STATES.values())}: an authority of three keys, of which two sign together, "
            f"admits {len(_agencies())} agencies, a key access service and an auditor, each with keys of "
            "its own. It opens channels; their keys come from a member, never from the authority.",
        )
        rows = [
            (one.name, str(len(one.members)), ", ".join(one.record_types), ", ".join(one.purposes))
            for one in CHANNELS
        ]
        tell.table(("channel", "members", "records", "purposes"), rows, right=("members",))
        return world

    async def publish(self, world: World, kas: KeyAccess) -> None:
        """Act 2."""
        results = []
        for plan in FILES:
            async with Actor.enter(world, plan.agency, kas) as actor:
                results.append(await actor.publish(plan))
        self.published = sum(one.published for one in results)
        self.rejected = sum(len(one.rejects) for one in results)
        self.teller.chapter(
            "They publish",
            "A repatriation batch of 100 people, half of them children, and what police, courts and "
            "rehabilitation know. Names and passport numbers stay in the files: the mapping drops them. "
            "Each batch is signed once, and each record locked under a key that nobody holds alone.",
        )
        rows = [
            (
                one.plan.agency,
                one.plan.channel,
                one.plan.file,
                str(one.published),
                str(len(one.rejects)),
            )
            for one in results
        ]
        columns = ("agency", "channel", "file", "published", "rejected")
        self.teller.table(columns, rows, right=("published", "rejected"))
        self._tell_rejects(results)

    def _tell_rejects(self, results: Sequence[PublishResult]) -> None:
        for one in results:
            for line, problems in one.rejects:
                more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
                self.teller.bad(f"rejected, row {line}: {_short(problems[0])}{more}")

    async def justice_feed(self, world: World, kas: KeyAccess) -> None:
        """Act 3."""
        ground = disclosure(
            "xbb-xdd",
            Purpose.PROSECUTION,
            COURTS.ref,
            why="nightly feed of the court registry",
            basis="Mutual Legal Assistance Treaty, article 3",
        )
        async with Actor.enter(world, COURTS.agency, kas) as actor:
            feed = await actor.feed(ground)
        self._count(len(feed.delivered), feed.denied)
        measures = Counter(str(one.record.body.get("measure")) for one in feed.delivered)
        self.teller.chapter(
            "A justice team's feed",
            f"The ministry of justice of Dorvale subscribes under its mandate {COURTS.ref}. Before "
            "anything is unlocked, the key access service has written down who reads what, and why.",
        )
        listed = ", ".join(f"{count} {name.lower()}" for name, count in measures.most_common())
        self.teller.good(f"{len(feed.delivered)} measures delivered: {listed}")
        self._tell_denied(feed.denied)

    async def protection_feed(self, world: World, kas: KeyAccess) -> None:
        """Act 4."""
        ground = disclosure(
            "repatriation",
            Purpose.CHILD_PROTECTION,
            PROTECTION.ref,
            why="preparing the reception of children",
            basis="Child Protection Act of Cassarine, section 4",
        )
        async with Actor.enter(world, PROTECTION.agency, kas) as actor:
            feed = await actor.feed(ground, ("ReturnEvent",))
        self._count(len(feed.delivered), feed.denied)
        ages = Counter(str(one.record.body["subject"]["age_band"]) for one in feed.delivered)
        self.teller.chapter(
            "The child protection agency's feed",
            "It reads the returns of children, and those of unknown age, who are protected as children "
            "are. What was shared for the reintegration of adults is not for it.",
        )
        listed = ", ".join(f"{count} {name.lower()}" for name, count in ages.most_common())
        self.teller.good(f"{len(feed.delivered)} returns delivered: {listed}")
        self._tell_denied(feed.denied)

    async def consult(self, world: World, kas: KeyAccess) -> None:
        """Act 5."""
        ground = consultation(
            "xaa-xbb",
            Purpose.INVESTIGATION,
            person="BV-4711",
            role="investigator",
            basis="Police Treaty, article 12",
            case="BV-2026-0815",
            why="The person may have crossed the border at Kestrel Bridge last week.",
        )
        async with Actor.enter(world, "XBB:police", kas) as actor:
            item = await actor.consult(await actor.find(Wish(channel="xaa-xbb", topic="emergence")), ground)
        if not isinstance(item, Delivered):
            raise UsageError(f"the demo's consultation was not answered: {item}")
        self._count(1, Counter())
        self.consulted = dict(record_rows(item))["record"]
        self.teller.chapter(
            "A consultation",
            "An officer of Borvenia's police, known to others by a pseudonym only, looks up one report for "
            "case BV-2026-0815. Who reads and why goes into the access log first, locked there for those "
            "whom "
            "the law lets read it: "
            f"“{ground.details().justification}”",
        )
        self.teller.table(
            ("field", "value"), [(name, value) for name, value in record_rows(item) if name in _SHOWN]
        )

    async def denials(self, world: World, kas: KeyAccess) -> None:
        """Act 6."""
        self.teller.chapter(
            "Three that are denied",
            "A stranger to a channel, who learns nothing but no; a member with the wrong purpose; and a "
            "court, where the provider has not permitted it (handling code H1).",
        )
        rows = []
        for name, finder, wish, purpose in _DENIALS:
            async with Actor.enter(world, finder, kas) as member:
                found = await member.find(wish)
            async with Actor.enter(world, name, kas) as actor:
                reason = await _refused(actor, found, wish.channel, purpose)
            self._count(0, Counter([reason]))
            rows.append((name, wish.channel, purpose.value, reason, reason_meaning(reason).text))
        self.teller.table(("who", "channel", "purpose", "denied", "because"), rows)

    async def audit(self, world: World) -> Audit:
        """Act 7."""
        audit = await replay(world.profiles[AUDITOR])
        self.teller.chapter(
            "The auditor replays",
            "With keys that open no record, the auditor replays both logs from the first message: every "
            "signature, every digest, every access, each decided once more.",
        )
        if audit.verified:
            self.teller.good(
                f"verified: {audit.records} records in {audit.manifests} batches, {audit.access_entries} "
                "access entries, 0 violations"
            )
        else:
            self.teller.bad(f"NOT verified, {audit.violations} violations, which is a bug:")
            for line in audit.lines:
                self.teller.bad(line)
        return audit

    async def forgery(self, world: World) -> tuple[Forgery, Audit]:
        """Act 8."""
        forgery = await forge(world)
        audit = await replay(forgery.profile)
        self.teller.chapter(
            "A forger is found out",
            "Somebody with full access to the disk changes one bit of one child's record, in a copy of the "
            "log. The auditor replays the copy.",
        )
        if audit.roots == (forgery.place,):
            self.teller.good(f"found, and named: {audit.lines[0]}")
            self.teller.say("All else that is wrong follows from it, and says so:")
        else:
            self.teller.bad("the manipulation was NOT found as what it is, which is a bug:")
        self.teller.table(("where", "what is wrong", "follows from"), audit.rows)
        return forgery, audit

    def summary(self, world: World, audit: Audit, forgery: Forgery, found_out: Audit) -> dict[str, object]:
        """The answer for a program."""
        return {
            "published": self.published,
            "rejected": self.rejected,
            "delivered": self.delivered,
            "denied": self.denied.total(),
            "denied_by_reason": dict(self.denied),
            "access_entries": audit.access_entries,
            "records": audit.records,
            "manifests": audit.manifests,
            "verified": audit.verified,
            "violations": audit.violations,
            "consulted": self.consulted,
            "log": world.log,
            "profiles": {name: str(profile.path) for name, profile in world.profiles.items()},
            "forged": {
                "found": found_out.roots == (forgery.place,),
                "profile": str(forgery.profile.path),
                "log": forgery.profile.log,
                "topic": forgery.place.topic,
                "partition": forgery.place.partition,
                "offset": forgery.place.offset,
                "violations": found_out.violations,
                "lines": list(found_out.lines),
            },
        }

    def _count(self, delivered: int, denied: Counter[str]) -> None:
        self.delivered += delivered
        self.denied.update({str(reason): count for reason, count in denied.items()})

    def _tell_denied(self, denied: Counter[str]) -> None:
        for reason, count in denied.items():
            self.teller.bad(f"{count} denied, {reason}: {reason_meaning(reason).text}")


_DENIALS = (
    # who, a member who tells it where the record is, which record, for what
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
    """Why the record was not released to this actor."""
    ground: Ground = consultation(
        channel,
        purpose,
        person="staff-12",
        role="officer",
        basis="none that holds",
        case="EX-1",
        why="An exercise: this must be denied.",
    )
    item = await actor.consult(found, ground)
    if not isinstance(item, NotDelivered):
        raise UsageError(f"what must be denied was not: {item.place}")
    return str(item.reason)


def _agencies() -> list[str]:
    return [name for name, (role, _) in PARTICIPANTS.items() if role is Role.AGENCY]


def _short(problem: str) -> str:
    """A reason without what was expected and the law: that stands in the file of rejects."""
    return problem.split(", expected", 1)[0]
