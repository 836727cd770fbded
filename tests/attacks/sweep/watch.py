"""Who notices: an auditor's replay, and if that verifies the service and a reader of each channel.

found by replay     it is not verified, or refuses by name
found in use        the service stops or refuses by name, or a reader is told
unbound             everything that was changed lies above the newest bound position
harmless            everybody is given what there was, and nobody decides by what was changed
MISSED              none of these
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from attacks.sweep.long_log import READERS, LongLog
from attacks.sweep.manipulations import Cell, Changed, Partitions
from broker.audit.causes import Known
from broker.audit.replay import ReplayReport, replay
from broker.errors import BrokerError
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.services.kas.service import KeyAccessService
from broker.subscribe.subscriber import Delivered
from broker.verify.violations import Kind, Violation
from support.coalition import AUDITOR, receiving_key, signing_key
from support.world import World

__all__ = ["Seen", "Watch", "Watched", "partitions"]

_SELECT = "SELECT topic, partition, offset, key, value, appended_at FROM message ORDER BY 1, 2, 3"
_UNSEEN = ("keys",)
"""Topics that no replay reads: they are the service's own."""


class Seen(StrEnum):
    """What became of a manipulation."""

    REPLAY = "found by replay"
    USE = "found in use"
    UNBOUND = "unbound"
    HARMLESS = "harmless"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of it, and the words in which it was told."""

    seen: Seen
    words: str


def partitions(path: Path) -> Partitions:
    """Every message of a log's file that nobody has open, by topic and partition."""
    found: dict[tuple[str, int], list[Cell]] = {}
    # Immutable: SQLite leaves no files beside one that other processes are copying meanwhile.
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as db:
        for topic, partition, *cell in db.execute(_SELECT):
            found.setdefault((topic.removeprefix("ftf."), partition), []).append(Cell(*cell))
    return found


@dataclass(frozen=True, slots=True)
class Watch:
    """What everybody finds in the log while nothing is wrong, to be compared with."""

    log: LongLog
    known: tuple[Known, ...]
    """What replay says of the entry that stands there late."""
    given: frozenset[tuple[bytes, int]]

    @classmethod
    def over(cls, log: LongLog, scratch: Path) -> Watch:
        """Look at the log as it was played; but for what stands there late, nothing may be found."""
        folder = _copied(log, scratch)
        report = asyncio.run(_replayed(folder, log.genesis, ()))
        found = [one.violation for one in report.violations]
        assert {one.kind for one in found} == {Kind.LATE_ENTRY}, found
        told, given = asyncio.run(_used(folder))
        assert told == [], told
        known = tuple(Known(kind=one.kind, place=one.place, count=one.count) for one in found)
        return cls(log, known, frozenset(given))

    def see(self, changed: Changed, scratch: Path) -> Watched:
        """Change a copy of the log in the folder ``scratch``, and look who notices."""
        folder = _copied(self.log, scratch)
        _write(folder / "log.db", changed)
        is_unseen = all(topic in _UNSEEN for topic, _ in changed)
        is_bound = False
        if not is_unseen:
            try:
                report = asyncio.run(_replayed(folder, self.log.genesis, self.known))
            except BrokerError as error:
                return Watched(Seen.REPLAY, f"{type(error).__name__}: {error.message}")
            if not report.verified:
                return Watched(Seen.REPLAY, _words(one.violation for one in report.violations))
            is_bound = self._touches_bound(changed, report)
        try:
            told, given = asyncio.run(_used(folder))
        except BrokerError as error:
            told, given = [f"{type(error).__name__}: {error.message}"], set()
        if told:
            # An auditor has to see it without the service's journal, where somebody signed for it.
            return Watched(Seen.MISSED if is_bound else Seen.USE, "; ".join(told))
        if is_bound or (is_unseen and given != self.given):
            return Watched(Seen.MISSED, f"{len(self.given - given)} records are not given any more")
        return Watched(Seen.HARMLESS if is_unseen else Seen.UNBOUND, "")

    def _touches_bound(self, changed: Changed, report: ReplayReport) -> bool:
        """Whether anything was changed below the newest bound positions, as the replay reports them."""
        bound = {(one.topic, one.partition): one.head.size for one in report.bound if one.head is not None}
        # Every statement names a view of the directory, so all of it that changed anything is bound.
        bound[("directory", 0)] = report.directory_size
        before = partitions(self.log.folder / "log.db")
        return any(
            _first_change(before.get(place, ()), cells) < bound.get(place, 0)
            for place, cells in changed.items()
        )


def _copied(log: LongLog, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(log.folder, folder)
    return folder


def _write(path: Path, changed: Changed) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for (topic, partition), cells in changed.items():
            where = (f"ftf.{topic}", partition)
            db.execute("DELETE FROM message WHERE topic = ? AND partition = ?", where)
            rows = [(*where, cell.offset, cell.key, cell.value, cell.appended_at) for cell in cells]
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)


def _first_change(before: Iterable[Cell], after: Iterable[Cell]) -> float:
    """The lowest offset at which a partition is not what it was."""
    there, now = ({cell.offset: cell for cell in cells} for cells in (before, after))
    return min((at for at in there.keys() | now.keys() if there.get(at) != now.get(at)), default=float("inf"))


async def _replayed(folder: Path, genesis: bytes, known: tuple[Known, ...]) -> ReplayReport:
    async with await SqliteLog.open(folder / "log.db") as log:
        follower = await DirectoryFollower.start(log, genesis)
        keyring = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
        return await replay(Participant(log=log, follower=follower, keyring=keyring), known=known)


async def _used(folder: Path) -> tuple[list[str], set[tuple[bytes, int]]]:
    """What service and readers are told, and the records that a reader of each channel is given."""
    told: list[str] = []
    given: set[tuple[bytes, int]] = set()
    async with World.open(folder) as world:
        assert isinstance(world.kas, KeyAccessService)
        for channel, name in READERS.items():
            for item in await world.read(name, channel, kas_timeout_s=0.0):
                if isinstance(item, Delivered):
                    given.add((item.batch_id, item.index))
                elif isinstance(item, Violation):
                    told.append(_words([item]))
                elif item.reason == "NOT_COLLECTED":
                    told.append(f"{item.place}: {item.reason}")
        told += world.kas.alarms
    return told, given


def _words(violations: Iterable[Violation]) -> str:
    return "; ".join(f"{one.kind} at {one.place}: {one.detail}" for one in list(violations)[:3])
