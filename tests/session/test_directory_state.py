"""The snapshot in a state folder: a start reads little, and whatever is wrong with it costs time only."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from broker.directory import Directory
from broker.errors import LogForked, NotEntitled
from broker.log.protocol import Message
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DIRECTORY, DirectoryFollower
from broker.session import Profile, open_session
from broker.session.directory_state import SNAPSHOT, load_high_water, load_snapshot, save_seen
from support.cli_coalition import BORDER, POLICE, CliCoalition

GARBAGE = 1200


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliCoalition:
    """A coalition whose directory is mostly garbage."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    made = CliCoalition.create(tmp_path)
    flood(made, GARBAGE)
    return made


def flood(place: CliCoalition, count: int, value: bytes = b"x") -> None:
    async def run() -> None:
        async with await SqliteLog.open(place.folder / "log.db") as log:
            await log.append(DIRECTORY, [Message(b"", value)] * count)

    asyncio.run(run())


def suspend(place: CliCoalition) -> None:
    done = place.run("authority", "agency", "suspend", BORDER, "--reason", "a test")
    assert done.code == 0, done.err


def profile_of(place: CliCoalition, name: str = POLICE) -> Profile:
    return Profile.load(place.profile(name))


def opened(profile: Profile) -> Directory:
    """The directory that a session finds."""

    async def run() -> Directory:
        async with open_session(profile) as session:
            return session.directory

    return asyncio.run(run())


def started(profile: Profile) -> tuple[Directory, int, list[str]]:
    """The same, with how many messages of the directory were read, and what was logged."""
    read = 0
    inner = SqliteLog.read

    async def counting(log: SqliteLog, *how: object, **more: object) -> AsyncIterator[object]:
        nonlocal read
        async for message in inner(log, *how, **more):  # type: ignore[arg-type]
            read += 1
            yield message

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(SqliteLog, "read", counting)
        directory = opened(profile)
    return directory, read, [str(line["event"]) for line in lines]


def test_the_second_start_reads_one_message(place: CliCoalition) -> None:
    """A flooded directory is read once; the file can be read by its owner alone."""
    profile = profile_of(place)
    first, read, lines = started(profile)
    assert read > GARBAGE
    assert (profile.state / SNAPSHOT).stat().st_mode & 0o777 == 0o600
    assert started(profile) == (first, 1, lines)
    assert lines == []


def test_a_small_directory_needs_no_snapshot(place: CliCoalition, tmp_path: Path) -> None:
    """It is read anew as fast."""
    (tmp_path / "small").mkdir()
    small = CliCoalition.create(tmp_path / "small")
    opened(profile_of(small))
    assert not (profile_of(small).state / SNAPSHOT).exists()


def test_a_snapshot_follows_every_view(place: CliCoalition) -> None:
    """What changed the directory is in the next snapshot at once; garbage waits for the next thousand."""
    profile = profile_of(place)
    opened(profile)
    before = (profile.state / SNAPSHOT).read_bytes()
    flood(place, 900)
    opened(profile)
    assert (profile.state / SNAPSHOT).read_bytes() == before
    suspend(place)
    directory, read, lines = started(profile)
    mark, snapshot = load_high_water(profile), load_snapshot(profile, load_high_water(profile))
    assert mark is not None
    assert snapshot is not None
    assert snapshot.history.latest == directory
    assert directory.size == mark.size
    assert (read, lines) == (902, [])
    assert (started(profile))[1] == 1


PUT_ASIDE = "the snapshot of the directory is put aside, and the directory is read from its beginning"


@pytest.mark.parametrize("how", ["damaged", "empty", "foreign", "older", "without a mark", "another mark"])
def test_a_snapshot_that_cannot_be_trusted_costs_time_only(
    place: CliCoalition, tmp_path: Path, how: str
) -> None:
    """It is put aside with a line in the log, and the directory is read from its beginning."""
    profile = profile_of(place)
    directory = opened(profile)
    path = profile.state / SNAPSHOT
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        (tmp_path / "other").mkdir()
        other = CliCoalition.found(tmp_path / "other" / "c", f"sqlite:{tmp_path / 'other' / 'c' / 'log.db'}")
        flood(other, GARBAGE)
        opened(profile_of(other))
        shutil.copy(profile_of(other).state / SNAPSHOT, path)
    elif how == "older":
        old = path.read_bytes()
        suspend(place)
        directory = opened(profile)
        path.write_bytes(old)
    else:
        mark = profile.state / "high-water.json"
        fields = json.loads(mark.read_bytes())
        mark.unlink()
        if how == "another mark":
            mark.write_text(json.dumps({"size": fields["size"], "root": "00" * 32}))
            with pytest.raises(NotEntitled, match="differs from what was seen before"):
                opened(profile)
            assert not path.exists()
            return
    again, read, lines = started(profile)
    assert (again, lines) == (directory, [PUT_ASIDE])
    assert read > GARBAGE
    assert path.with_name(SNAPSHOT + ".refused").exists()
    assert (started(profile))[1:] == (1, [])


@pytest.mark.parametrize("how", ["shorter", "other garbage"])
def test_a_replaced_log_is_named_and_leaves_the_state_as_it_was(place: CliCoalition, how: str) -> None:
    """A log that was put back is refused, also where every statement is still there."""
    profile = profile_of(place)
    file = place.folder / "log.db"
    old = file.with_name("old.db")
    shutil.copy(file, old)
    flood(place, 1000, b"seen")
    opened(profile)
    kept = {path.name: path.read_bytes() for path in profile.state.iterdir()}
    for path in place.folder.glob("log.db*"):
        path.unlink()
    shutil.copy(old, file)
    if how == "other garbage":
        flood(place, 1500, b"new!")
    with pytest.raises(LogForked, match=r"which was read before|than the one that was read") as caught:
        opened(profile)
    assert "operations.md" in str(caught.value.hint)
    assert {path.name: path.read_bytes() for path in profile.state.iterdir()} == kept


def test_who_has_seen_less_leaves_the_snapshot_of_another_process(place: CliCoalition) -> None:
    """A process that ends late does not put back what a faster one has kept."""
    profile = profile_of(place)
    slow = asyncio.run(follower_of(place, profile))
    suspend(place)
    opened(profile)
    kept = (profile.state / SNAPSHOT).read_bytes()
    assert save_seen(profile, slow) == 0
    assert (profile.state / SNAPSHOT).read_bytes() == kept


async def follower_of(place: CliCoalition, profile: Profile) -> DirectoryFollower:
    async with await SqliteLog.open(place.folder / "log.db") as log:
        return await DirectoryFollower.start(log, profile.genesis)


def test_a_snapshot_that_cannot_be_written_stops_nobody(place: CliCoalition) -> None:
    """A folder stands in the place of the file: a line in the log, and the session goes on."""
    profile = profile_of(place)
    (profile.state / SNAPSHOT).mkdir(parents=True)
    _, read, lines = started(profile)
    assert read > GARBAGE
    assert set(lines) == {
        "the snapshot of the directory cannot be read", "no snapshot of the directory was kept"
    }  # fmt: skip
