"""What a profile's state folder keeps of the directory: the high-water mark and the snapshot.

The high-water mark decides: a log that shows less than the mark says is never accepted again. The snapshot
saves time and decides nothing. Several processes share the folder: they write both under one lock, and each
file is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from broker.directory import HighWater, check_high_water
from broker.errors import PeerError, UsageError
from broker.files import locked, write_atomically
from broker.logger import get_logger
from broker.participant.follower import DirectoryFollower
from broker.participant.snapshot import MAX_SNAPSHOT_BYTES, Snapshot
from broker.session.profile import Profile

__all__ = ["SNAPSHOT", "load_high_water", "load_snapshot", "save_seen"]

SNAPSHOT = "directory-snapshot.json"
_HIGH_WATER = "high-water.json"

_DUE = 1000
"""A snapshot is kept when so many messages of the directory were read that none covers."""

_log = get_logger("broker.session")


def load_high_water(profile: Profile) -> HighWater | None:
    """Read how much of the directory this participant has seen; None before the first time."""
    path = profile.state / _HIGH_WATER
    try:
        # Only a missing file means that nothing was seen yet. A damaged one is an error: if it were taken for
        # a first time, any older directory would be accepted.
        fields = json.loads(path.read_bytes())
        return HighWater(size=int(fields["size"]), root=bytes.fromhex(fields["root"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"cannot read '{path}': {error}",
            hint="it says how much of the directory was seen; ask the authority before you remove it",
        ) from None


def load_snapshot(profile: Profile, mark: HighWater | None) -> Snapshot | None:
    """Read the snapshot of this profile, if there is one that shows all that its high-water mark shows.

    A snapshot that is damaged, foreign or older, or that contradicts the mark, is put aside under another
    name. So is one beside which there is no mark: whoever removed the mark wants the directory read anew.
    """
    path = profile.state / SNAPSHOT
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SNAPSHOT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("the snapshot of the directory cannot be read", file=str(path), reason=str(error))
        return None
    if mark is None:
        _put_aside(path, "there is no high-water mark beside it")
        return None
    try:
        snapshot = Snapshot.from_bytes(data, profile.genesis)
        check_high_water(snapshot.history, mark)
    except PeerError as error:
        _put_aside(path, error.message)
        return None
    return snapshot


def save_seen(profile: Profile, follower: DirectoryFollower, covered: int = 0) -> int:
    """Remember what the follower has seen: its mark, and a snapshot where one is due.

    ``covered`` is how many messages the newest snapshot covers that this process has loaded or written, 0
    when there is none; return the same for later.
    """
    with _locked(profile):
        before = load_high_water(profile)
        latest = follower.history.latest
        # The snapshot comes before the mark. The other way round a crash in between would leave one behind
        # that is older than the mark, which is of no use. For the same reason the process that has seen less
        # than another leaves the snapshot of the other.
        is_due = follower.history.size >= covered + _DUE or 0 < covered < latest.size
        if is_due and (before is None or before.size <= latest.size):
            covered = _write_snapshot(profile, follower) or covered
        _raise_mark(profile, before, follower.high_water)
    return covered


def _locked(profile: Profile) -> contextlib.AbstractContextManager[None]:
    # Reading and writing are one step under the lock. Otherwise the slower of two processes, which has seen
    # less of the directory, would overwrite the mark of the faster one.
    return locked(profile.state / (_HIGH_WATER + ".lock"))


def _raise_mark(profile: Profile, before: HighWater | None, mark: HighWater) -> None:
    # Only the sizes are compared. Two processes that were shown different directories since the last mark
    # are found out at their next start, when the directory of one of them does not fit the mark.
    if before is None or before.size < mark.size:
        data = json.dumps({"size": mark.size, "root": mark.root.hex()}) + "\n"
        write_atomically(profile.state / _HIGH_WATER, data.encode())


def _write_snapshot(profile: Profile, follower: DirectoryFollower) -> int | None:
    """Write a snapshot, and return how many messages it covers; None when there is none to be written."""
    snapshot = follower.snapshot()
    data = b"" if snapshot is None else snapshot.to_bytes()
    if snapshot is None or len(data) > MAX_SNAPSHOT_BYTES:
        return None
    try:
        write_atomically(profile.state / SNAPSHOT, data)
    except UsageError as error:
        _log.warning("no snapshot of the directory was kept", reason=error.message)
        return None
    return snapshot.frontier.size


def _put_aside(path: Path, reason: str) -> None:
    aside = path.with_name(path.name + ".refused")
    # Another process may have put it aside already, and a file that stays is refused again.
    with contextlib.suppress(OSError):
        os.replace(path, aside)
    _log.warning(
        "the snapshot of the directory is put aside, and the directory is read from its beginning",
        reason=reason,
        file=str(aside),
    )
