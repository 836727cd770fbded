"""The most of the directory that was seen is never taken back, however many processes remember it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from broker.directory import HighWater
from broker.participant.follower import DirectoryFollower
from broker.session import Profile
from broker.session.directory_state import load_high_water, save_seen
from support.cli_coalition import POLICE, CliCoalition

SIZES = range(100, 220)


def _follower(size: int) -> DirectoryFollower:
    """A follower that has seen so much of a directory, as far as its mark is concerned."""
    seen = SimpleNamespace(size=size, latest=SimpleNamespace(size=size))
    mark = HighWater(size=size, root=bytes(32))
    return cast(DirectoryFollower, SimpleNamespace(history=seen, high_water=mark))


def test_processes_side_by_side_take_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While several processes write what each has seen, the mark only rises, and it ends at the largest."""
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")
    profile = Profile.load(CliCoalition.create(tmp_path).profile(POLICE))

    def remember(share: int) -> None:
        for size in SIZES[share::4]:
            save_seen(profile, _follower(size))

    writers = [threading.Thread(target=remember, args=(share,)) for share in range(4)]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        mark = load_high_water(profile)
        seen.append(0 if mark is None else mark.size)
    assert seen == sorted(seen)
    last = load_high_water(profile)
    assert last is not None
    assert last.size == SIZES[-1]
    assert (profile.state / "high-water.json").stat().st_mode & 0o777 == 0o600
