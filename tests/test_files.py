"""Files that survive a crash or a power cut, bytes and name, and locks between processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker import files
from broker.errors import UsageError
from broker.files import LineFile, locked, make_folder, open_lock, write_atomically, write_new


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed from now on, in order: ``file``, ``folder`` or ``replace``."""
    seen: list[str] = []

    def sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append("folder" if is_folder else "file")

    real_replace: Callable[..., None] = os.replace

    def replace(source: Any, target: Any) -> None:
        seen.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    return seen


def test_a_replaced_file_is_durable_bytes_first_and_its_name_last(tmp_path: Path, steps: list[str]) -> None:
    """The bytes are synced before the file is renamed, and the folder is synced after it."""
    write_atomically(tmp_path / "file", b"new")
    assert steps == ["file", "replace", "folder"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """When the disk fails before the rename the old content stays, alone, and the error names the file."""
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(UsageError, match=r"cannot write '.*file': No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_failure_after_the_rename_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the folder is synced the new name may be lost, so a folder that cannot be synced is an error."""

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "sync_folder", fail)
    with pytest.raises(UsageError, match="Input/output error"):
        write_atomically(tmp_path / "file", b"new")


def test_a_new_file_is_durable_bytes_and_name(tmp_path: Path, steps: list[str]) -> None:
    """The bytes of a new file are synced, then its folder, and only its owner can read it."""
    write_new(tmp_path / "file", b"new")
    assert steps == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    """A path that is taken is refused, and what is there stays; a link that leads nowhere counts too."""
    taken = tmp_path / "file"
    taken.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (taken, link):
        with pytest.raises(FileExistsError):
            write_new(path, b"new")
    assert taken.read_bytes() == b"old"
    assert not (tmp_path / "elsewhere").exists()


def test_a_new_file_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bytes or the name cannot be made durable, the file is gone and the error names it."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((os, "fsync"), (files, "sync_folder")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(UsageError, match=r"cannot write '.*file': No space left"):
                write_new(tmp_path / "file", b"new")
        assert list(tmp_path.iterdir()) == []


def test_new_folders_are_durable_too(tmp_path: Path, steps: list[str]) -> None:
    """Each folder that is made is synced into its parent; a folder that exists costs nothing."""
    make_folder(tmp_path / "a" / "b")
    assert steps == ["folder", "folder"]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    make_folder(tmp_path / "a" / "b")
    assert steps == ["folder", "folder"]


def test_added_lines_are_durable_after_a_sync(tmp_path: Path, steps: list[str]) -> None:
    """The name is durable when the file is opened, the lines when they are synced, once for all of them."""
    lines = LineFile.open(tmp_path / "lines")
    assert steps == ["folder"]
    lines.add(b"one\n")
    lines.add(b"two\n")
    lines.sync()
    lines.sync()
    lines.close()
    lines.close()
    assert steps == ["folder", "file"]
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "lines").stat().st_mode) == 0o600


def test_a_line_is_not_joined_to_one_that_a_crash_cut_short(tmp_path: Path) -> None:
    """Whoever cut it, even a process that died while we had the file open, our line stands on its own."""
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": ')
    lines = LineFile.open(path)
    lines.add(b"first\n")
    with path.open("ab") as other:
        other.write(b'{"b"')
    lines.add(b"second\n")
    lines.close()
    assert path.read_bytes() == b'{"a": \nfirst\n{"b"\nsecond\n'


def test_a_line_is_written_whole_by_a_disk_that_takes_it_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes only some of the bytes is continued."""
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:3]))
    lines = LineFile.open(tmp_path / "lines")
    lines.add(b"a long line\n")
    lines.close()
    assert (tmp_path / "lines").read_bytes() == b"a long line\n"


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of a lock or of a file of lines would redirect what is written."""
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        open_lock(path)
    with pytest.raises(UsageError):
        LineFile.open(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    """While a lock is held a second one is refused, or waits; the lock file stays."""
    path = tmp_path / "new" / "lock"
    with locked(path), pytest.raises(BlockingIOError):
        open_lock(path, wait=False)
    os.close(open_lock(path, wait=False))
    assert path.exists()
