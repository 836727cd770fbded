"""One run: a seed is played as an exercise, and then everything must be right.

(1) nothing failed without a reason, and no reader saw a violation
(2) each record that was published is delivered, or there is a reason why it is not
(3) no service has an alarm
(4) an auditor's replay verifies
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.audit.replay import replay
from broker.errors import BrokerError
from broker.subscribe.subscriber import Delivered, Delivery, NotDelivered
from broker.wire.manifest import CollectionStatus, Reason
from broker.wire.terms import LED_PURPOSES, Action
from stress.exercise import READERS, Exercise, Finding, Sent
from support.coalition import AUDITOR

__all__ = ["MAX_RUN_S", "Outcome", "run_seed"]

MAX_RUN_S = 60.0
"""The longest that one run may take, in seconds."""
_DEEDS = {"publish": 4.0, "ask": 4.0, "read": 1.0, "collect": 2.0, "directory": 2.0, "complain": 0.2}
_FATE_S = 2.0
_ORDERED = {
    Action.ERASE: Reason.ERASED,
    Action.WITHDRAW: Reason.WITHDRAWN,
    Action.RESTRICT: Reason.RESTRICTED,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed."""

    seed: int
    findings: tuple[Finding, ...]
    records: int
    accesses: int
    seconds: float


def run_seed(seed: int) -> Outcome:
    """Play one seed in a folder of its own, in memory where the machine has such a folder."""
    begun = time.monotonic()
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ftf-stress-", dir=shm if shm.is_dir() else None))
    try:
        findings, records, accesses = asyncio.run(_bounded(seed, folder))
    finally:
        shutil.rmtree(folder)
    return Outcome(seed, tuple(findings), records, accesses, time.monotonic() - begun)


async def _bounded(seed: int, folder: Path) -> tuple[list[Finding], int, int]:
    try:
        async with asyncio.timeout(MAX_RUN_S):
            return await _play(seed, folder)
    except TimeoutError:
        return [Finding("too slow", f"more than {MAX_RUN_S:.0f} s")], 0, 0
    except Exception as error:  # noqa: BLE001  # it ends this run, and the others go on
        return [Finding(f"the run ends in {type(error).__name__}", traceback.format_exc(limit=-4))], 0, 0


async def _play(seed: int, folder: Path) -> tuple[list[Finding], int, int]:
    rng = random.Random(seed)
    async with Exercise.open(folder, rng) as exercise:
        for _ in range(rng.choice((4, 7, 10))):
            kinds = rng.choices(list(_DEEDS), list(_DEEDS.values()), k=rng.choice((1, 2, 4, 6)))
            await exercise.run_step([(kind, rng.randrange(2**32)) for kind in kinds])
            if rng.random() < 0.15:
                await exercise.restart_service(rng.randrange(2))
            if rng.random() < 0.15:
                await exercise.restart_publisher(rng.choice(list(exercise.publishers)))
        await exercise.settle(rng)
        findings = exercise.findings  # (1)
        for channel, name in READERS.items():
            try:
                items = await exercise.given(name, channel, rng.choice(exercise.services))
            except BrokerError as error:
                findings.append(Finding("error in the last reading", f"{name}: {error.message}"))
                continue
            findings += await _undelivered(exercise, channel, name, items)  # (2)
        for service in exercise.services:  # (3)
            findings += [Finding("alarm", text) for text in service.alarms]
        replayed, accesses = await _replayed(exercise)
        return [*findings, *replayed], len(exercise.sent), accesses


async def _replayed(exercise: Exercise) -> tuple[list[Finding], int]:  # (4)
    report = await replay(await exercise.world.participant(AUDITOR))
    findings = [
        Finding(f"{one.kind} in replay", f"{one.place} x{one.count}: {one.detail} <- {one.caused_by}")
        for one in (reported.violation for reported in report.violations)
    ]
    if not report.verified and not findings:
        findings.append(Finding("not verified", "no violation is listed"))
    return findings, report.counts.access_entries


async def _undelivered(
    exercise: Exercise, channel: str, reader: str, items: Sequence[Delivery]
) -> list[Finding]:
    """The records of a channel that its reader was not given, and for no right reason."""
    sent = exercise.sent
    given = {item.record_id for item in items if isinstance(item, Delivered)}
    withheld = {item.record_id: item.reason for item in items if isinstance(item, NotDelivered)}
    findings: list[Finding] = []
    for record_id, one in sent.items():
        if one.channel != channel or record_id in given:
            continue
        reason = withheld.get(record_id, "never shown")
        if not _is_right(reason, one, reader, list(sent.values())):
            words = f"{one.published.topic}/{one.published.partition}@{one.published.offset} of {one.issuer}"
            status, detail = await _fate(exercise, one)
            if status == CollectionStatus.REFUSED and exercise.was_suspended(one.issuer, detail):
                continue
            findings.append(Finding(f"undelivered, {reason}, {status}", f"{words}: {detail}"))
    return findings


async def _fate(exercise: Exercise, one: Sent) -> tuple[str, str]:
    """What the service says of a record's batch."""
    publisher = exercise.publishers[one.issuer]
    (fate,) = await publisher.collected([one.published], exercise.services[0], timeout_s=_FATE_S)
    return fate.status, fate.detail


def _is_right(reason: str, one: Sent, reader: str, sent: Sequence[Sent]) -> bool:
    """Whether a record may be withheld from its reader, by its own terms or by its originator's order."""
    terms, name = one.record.terms, (one.published.batch_id, one.published.index)
    if reason == Reason.NOT_RELEASABLE:
        return reader not in (one.issuer, *terms.handling.releasable_to)
    if reason == Reason.PURPOSE_RECORD:
        return terms.purpose not in LED_PURPOSES
    ordered = {
        _ORDERED.get(order.record.terms.action)
        for order in sent
        if order.issuer == one.issuer
        and any((target.batch_id, target.index) == name for target in order.record.terms.targets)
    }
    return reason in ordered
