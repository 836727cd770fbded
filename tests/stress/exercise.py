"""An exercise: a coalition in which everybody is honest, and everything happens at once.

Two key access services share a key store and a journal. Publishers, readers, services and the directory act
at the same time, on clocks that are up to five minutes slow, and are started anew between two steps. Each
deed draws from numbers of its own, so that a seed gives the same deeds whatever order they end in.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from broker.access.client import KeyAccess
from broker.clock import Clock, system_clock
from broker.directory import complaint, drafts
from broker.errors import BrokerError, KasStopped, KasUnavailable
from broker.publish.publisher import Published, Publisher, Ticket
from broker.records.record import Record
from broker.services.kas.service import KeyAccessService
from broker.subscribe.subscriber import Delivered, Delivery
from broker.verify.violations import Violation
from broker.wire.manifest import RecordItem
from broker.wire.terms import Action, Purpose, Target
from stress.slow_log import SlowLog
from support.asking import ask
from support.coalition import (
    AGENCIES,
    BORDER,
    CARE,
    JUSTICE,
    POLICE_A,
    POLICE_B,
    RECORD_TYPES,
    REHAB,
)
from support.world import CHANNEL, PAIR, World, ground

__all__ = ["MEMBERS", "READERS", "Exercise", "Finding", "Sent"]

MEMBERS = {CHANNEL: AGENCIES, PAIR: (POLICE_A, POLICE_B), "xbb-xdd": (JUSTICE, REHAB)}
READERS = {CHANNEL: POLICE_B, PAIR: POLICE_A, "xbb-xdd": REHAB}
"""Who reads everything of each channel at the end: members that are never suspended."""

_SUSPENDABLE = (BORDER, CARE, JUSTICE)
_MAX_SLOW_US = 290_000_000
"""How slow a clock may be: a request within five minutes of the service's clock is in time."""
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not happen where everybody is honest."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that its publisher holds to be durable."""

    issuer: str
    channel: str
    record: Record
    published: Published


@dataclass(eq=False)
class Exercise:
    """The exercise as far as it has come; ``run_step`` lets several deeds happen at once."""

    world: World
    clocks: dict[str, Clock]
    findings: list[Finding] = field(default_factory=list)
    sent: dict[bytes, Sent] = field(default_factory=dict)
    """The records by their ids."""
    services: list[KeyAccessService] = field(default_factory=list)
    publishers: dict[str, Publisher] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What was refused to somebody with a reason, by its words."""
    _closing: dict[str, AsyncExitStack] = field(default_factory=dict)
    _directory: asyncio.Lock = field(default_factory=asyncio.Lock)
    _states: dict[tuple[str, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _tickets: dict[bytes, Ticket] = field(default_factory=dict)
    """The tickets of records whose publishers still run, by record id."""
    _given: set[tuple[str, bytes, int]] = field(default_factory=set)
    """Who was given which record by a subscriber that keeps its state."""

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, rng: random.Random) -> AsyncIterator[Exercise]:
        """A new coalition with two services and a publisher of each agency."""
        clocks = {name: _slow(rng) for name in (*AGENCIES, "kas 0", "kas 1")}
        crossing = random.Random(rng.randrange(2**32))
        async with World.open(folder, wrap=lambda log: SlowLog(log, crossing)) as world:
            exercise = cls(world, clocks)
            try:
                for number in range(2):
                    await exercise.restart_service(number)
                for name in AGENCIES:
                    await exercise.restart_publisher(name)
                yield exercise
            finally:
                for name in list(exercise._closing):
                    await exercise._close(name)

    # starting anew, while nothing else happens

    async def restart_service(self, number: int) -> None:
        """Start one of the two services, and end the one that stood there before."""
        name = f"kas {number}"
        await self._close(name)
        stack = self._closing[name] = AsyncExitStack()
        slow = replace(self.world, clock=self.clocks[name])
        service = await stack.enter_async_context(slow.service())
        self.services[number : number + 1] = [service]

    async def restart_publisher(self, name: str) -> None:
        """Start the publisher of an agency, and end the one that stood there before, once it has asked."""
        if name in self.publishers:
            if self._is_suspended(name):
                return  # It could not publish anew what came too late.
            await self._noted("ask fate", self.ask_fate(name))
            self._tickets = {
                record_id: ticket
                for record_id, ticket in self._tickets.items()
                if self.sent[record_id].issuer != name
            }
        await self._close(name)
        stack = self._closing[name] = AsyncExitStack()
        opened = self.world.publisher(name, clock=self.clocks[name])
        self.publishers[name] = await stack.enter_async_context(opened)

    async def _close(self, name: str) -> None:
        stack = self._closing.pop(name, None)
        if stack is not None:
            await self._noted("close", stack.aclose())

    # several deeds at once

    async def run_step(self, deeds: list[tuple[str, int]]) -> None:
        """Let these deeds happen at the same time; each has numbers of its own."""
        kinds: dict[str, Callable[[random.Random], Awaitable[None]]] = {
            "publish": self.publish,
            "ask": self.ask,
            "read": self.read,
            "collect": self.collect,
            "directory": self.change_directory,
            "complain": self.complain,
        }
        work = (self._noted(kind, kinds[kind](random.Random(seed))) for kind, seed in deeds)
        await asyncio.gather(*work)

    async def _noted(self, what: str, work: Awaitable[object]) -> None:
        try:
            await work
        except BrokerError as error:
            words = f"{what}: {type(error).__name__}: {error.message}"
            if self._is_reason(error):
                self.refusals[words[:100]] += 1
            else:
                self.findings.append(Finding(f"error in {what}", words[:300]))

    def _is_reason(self, error: BrokerError) -> bool:
        """Whether nobody is to blame for an error: an agency is suspended, or was while keys were renewed."""
        is_out = "suspended" in error.message or "holds no key of the newest epoch" in error.message
        return is_out and not isinstance(error, KasStopped)

    async def publish(self, rng: random.Random) -> None:
        """An agency publishes a few records, or an order on some earlier record of its own."""
        channel = rng.choice(list(MEMBERS))
        name = rng.choice(MEMBERS[channel])
        publisher = self.publishers[name]
        records = [self._record(rng, name, channel) for _ in range(rng.choice((1, 1, 2, 4)))]
        tickets = [(record, await publisher.publish(channel, record)) for record in records]
        await publisher.flush()
        for record, ticket in tickets:
            self.sent[record.record_id] = Sent(name, channel, record, await ticket)
            self._tickets[record.record_id] = ticket

    async def ask_fate(self, name: str) -> None:
        """A publisher asks what became of its batches, and publishes anew what came too late."""
        own = [
            one for one in self.sent.values() if one.issuer == name and one.record.record_id in self._tickets
        ]
        if own:
            await self.publishers[name].collected([one.published for one in own], self.services[0])
        for one in own:
            record_id = one.record.record_id
            self.sent[record_id] = replace(one, published=await self._tickets[record_id])

    def _record(self, rng: random.Random, name: str, channel: str) -> Record:
        changes: dict[str, object] = {}
        if channel == CHANNEL and rng.random() < 0.2:
            changes["handling.releasable_to"] = sorted(rng.sample(AGENCIES, 2))
        record = self.world.record(rng.randrange(10**6), rng.choice(RECORD_TYPES), changes)
        own = [one for one in self.sent.values() if (one.issuer, one.channel) == (name, channel)]
        if not own or rng.random() > 0.35:
            return record
        earlier = rng.choice(own).published
        action = rng.choice((Action.RESTRICT, Action.ERASE, Action.WITHDRAW, Action.RECTIFY))
        targets = (Target(batch_id=earlier.batch_id, index=earlier.index),)
        body = record.body if action is Action.RECTIFY else {}
        return replace(record, terms=replace(record.terms, action=action, targets=targets), body=body)

    async def ask(self, rng: random.Random) -> None:
        """A member asks for some records, right or not; a request that is not answered is repeated."""
        channel = rng.choice(list(MEMBERS))
        name = rng.choice(MEMBERS[channel])
        if all(one.channel != channel for one in self.sent.values()):
            return
        # A request names batches of one issuer.
        issuer = rng.choice([one.issuer for one in self.sent.values() if one.channel == channel])
        known = [
            one.published for one in self.sent.values() if (one.issuer, one.channel) == (issuer, channel)
        ]
        chosen = {one.batch_id: one for one in rng.sample(known, min(len(known), rng.choice((1, 1, 3))))}
        items = [
            RecordItem(topic=one.topic, offset=one.offset, batch_id=one.batch_id, indexes=bytes([one.index]))
            for one in chosen.values()
        ]
        purpose = rng.choice((Purpose.PUBLIC_SECURITY, Purpose.PROSECUTION, Purpose.CHILD_PROTECTION))
        kas = rng.choice(self.services)
        for attempt in range(_ATTEMPTS):
            try:
                now = self.clocks[name]()
                await ask(self.world, kas, name, items, channel=channel, purpose=purpose, now=now)
                return
            except KasStopped:
                raise
            except KasUnavailable:
                if attempt == _ATTEMPTS - 1:
                    raise
            await asyncio.sleep(0.01)

    async def read(self, rng: random.Random) -> None:
        """A member goes on reading where it stopped the last time."""
        channel = rng.choice(list(MEMBERS))
        name = rng.choice(MEMBERS[channel])
        async with self._states[name, channel]:
            state = self.world.folder / f"{channel}-{name.replace(':', '-')}.state"
            items = await self.given(name, channel, rng.choice(self.services), state=state)
        for item in items:
            if isinstance(item, Delivered):
                once = (name, item.batch_id, item.index)
                if once in self._given:
                    self.findings.append(Finding("delivered twice", f"to {name}: {item.place}"))
                self._given.add(once)

    async def given(
        self, name: str, channel: str, kas: KeyAccess, *, state: Path | None = None
    ) -> list[Delivery]:
        """What a reader is given up to the present end; every violation in it is a finding."""
        subscriber = await self.world.subscriber(
            name, channel, kas=kas, ground=ground(channel), state_path=state, clock=self.clocks[name]
        )
        items: list[Delivery] = []
        async with subscriber:
            async for item in subscriber.deliveries():
                items.append(item)
                if isinstance(item, Violation):
                    words = f"{item.place}: {item.detail} <- {item.caused_by}"
                    self.findings.append(Finding(f"{item.kind} seen by a reader", f"{name}: {words}"))
        return items

    async def collect(self, rng: random.Random) -> None:
        """A service takes over what is new."""
        await rng.choice(self.services).collect()

    # the directory: its statements come one after another, and everything else happens meanwhile

    async def change_directory(self, rng: random.Random) -> None:
        """The authority suspends or reinstates an agency, or members publish the keys that are due."""
        name = rng.choice(_SUSPENDABLE)
        drawn = rng.random()
        async with self._directory:
            if drawn > 0.6:
                await self._renew(rng)
            elif self._is_suspended(name):
                await self.reinstate(name)
            else:
                await self.world.suspend(name)

    async def complain(self, rng: random.Random) -> None:
        """A member complains of its channel's newest keys, as if its own had been spoilt; others follow."""
        channel = rng.choice(list(MEMBERS))
        async with self._directory:
            found = self.world.directory.channels[channel]
            newest = found.epochs[found.newest_published]
            able = [name for name in MEMBERS[channel] if not self._is_suspended(name)]
            able = [name for name in able if newest.is_recipient(name) and name != newest.publisher]
            able = [name for name in able if (name, newest.publisher) not in found.complaints]
            if able and not newest.complained and newest.confirmed_at is not None:
                name = rng.choice(able)
                statement = complaint(
                    self.world.directory,
                    channel,
                    newest.number,
                    name,
                    detail="spoilt",
                    issued_at=self.world.coalition.now,
                )
                await self.world.say(statement, name)
            await self._renew(rng)

    async def _renew(self, rng: random.Random) -> None:
        for channel, members in MEMBERS.items():
            found = self.world.directory.channels[channel]
            newest = found.epochs[found.newest_published]
            able = [name for name in members if not self._is_suspended(name)]
            if newest.complained:
                able = [name for name in able if name != newest.publisher]
            if found.needs_new_epoch and able:
                await self.world.next_epoch(channel, rng.choice(able))

    async def reinstate(self, name: str) -> None:
        """The authority ends a suspension."""
        coalition = self.world.coalition
        await self.world.say(
            drafts.reinstate_agency(self.world.directory, agency=name, issued_at=coalition.now)
        )

    async def settle(self, rng: random.Random) -> None:
        """Everybody is reinstated, keys that are due are published, and everything is taken over."""
        for name in _SUSPENDABLE:
            if self._is_suspended(name):
                await self.reinstate(name)
        await self._renew(rng)
        for name in AGENCIES:
            await self._noted("ask fate", self.ask_fate(name))
        for service in self.services:
            await self._noted("collect", service.collect())

    def was_suspended(self, name: str, reason: str) -> bool:
        """Whether an agency was suspended at some time, and its publisher is told that this is the reason.

        What it appended before, and the service had not yet taken over, is refused: nobody may read it until
        the agency publishes it again.
        """
        history = self.world.coalition.history
        views = (history.upto(size) for size in range(1, history.size + 1))
        told = [view.parties[name].suspended for view in views if name in view.parties]
        return reason == f"'{name}' is suspended" and any(told)

    def _is_suspended(self, name: str) -> bool:
        return self.world.directory.parties[name].suspended


def _slow(rng: random.Random) -> Clock:
    behind = rng.randrange(_MAX_SLOW_US) if rng.random() < 0.5 else 0
    return lambda: system_clock() - behind
