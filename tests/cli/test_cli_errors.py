"""What goes wrong, as transcripts: an error, a hint, an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.found import agency
from support.command_line import Transcript, ftf_broker

A = ("--profile", "authority/authority.toml")
ME = ("--profile", "xaa-police/xaa-police.toml")


def _edit(path: str, before: str, after: str) -> None:
    text = Path(path).read_text()
    assert before in text
    Path(path).write_text(text.replace(before, after))


def test_no_profile_chosen() -> None:
    """Whoever forgets the profile is told how to name it."""
    assert ftf_broker("channel", "list") == Transcript(
        2,
        "",
        "error: no profile is chosen\n"
        "hint: name one with --profile FILE, or in the environment as FTF_PROFILE\n",
    )


def test_a_profile_that_is_not_there() -> None:
    """The path is named."""
    assert ftf_broker("channel", "list", "--profile", "/nowhere/p.toml") == Transcript(
        2,
        "",
        "error: there is no profile '/nowhere/p.toml'\n"
        "hint: name one with --profile FILE or in FTF_PROFILE\n",
    )


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ('role = "agency"', 'role = "agent"', "field 'role' is 'agent', expected one of: authority,"),
        ('role = "agency"', "", "field 'role' is missing"),
        ('name = "XAA:police"', 'name = "police"', "field 'name': 'police' is not the name of an agency"),
        ('name = "XAA:police"', "name = 7", "field 'name' is 7, expected text"),
        ('keys = "keys"', 'kees = "keys"', "unknown field 'kees'"),
        ('genesis = "', 'genesis = "zz', "field 'genesis' is 'zz"),
        ("log = ", "log ", "is not valid TOML"),
        ("sqlite:../log.db", "redis://host/0", "field 'log': unknown kind of log 'redis'"),
        ("local:../kas/kas.toml", "https://kas.example", "field 'kas': cannot use 'https://kas.example'"),
        ("local:../kas/kas.toml", "kas.toml", "field 'kas': 'kas.toml' is not an address"),
    ],
)
def test_a_wrong_field_of_a_profile_is_named_with_its_file(
    coalition: Path, before: str, after: str, error: str
) -> None:
    """The file and the field, and exit code 2."""
    _edit("xaa-police/xaa-police.toml", before, after)
    told = ftf_broker("channel", "list", *ME)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("error: profile 'xaa-police/xaa-police.toml'")
    assert error in told.err


def test_a_log_that_is_not_there_is_not_created(coalition: Path) -> None:
    """A wrong path ends in an error, not in an empty log."""
    _edit("xaa-police/xaa-police.toml", "sqlite:../log.db", "sqlite:../other.db")
    told = ftf_broker("channel", "list", *ME)
    assert told.code == 2
    assert told.err.startswith(f"error: there is no log at 'sqlite:{coalition}/other.db'\nhint: ")
    assert not Path("other.db").exists()


def test_a_log_without_a_directory(coalition: Path) -> None:
    """Another prefix of the same log holds no coalition."""
    _edit("xaa-police/xaa-police.toml", "sqlite:../log.db", "sqlite:../log.db?prefix=other")
    told = ftf_broker("channel", "list", *ME)
    assert told.code in (1, 3)
    assert told.err.startswith("error: ")
    assert "Traceback" not in told.err


def test_the_directory_of_another_coalition(coalition: Path) -> None:
    """The pinned genesis decides, not the log."""
    genesis = ftf_broker("init", "Other", "other", "--log", "sqlite:other.db").out.strip()
    _edit("xaa-police/xaa-police.toml", "sqlite:../log.db", "sqlite:../other.db")
    told = ftf_broker("channel", "list", *ME)
    assert told.code == 1
    assert told.err.startswith("error: the directory ")
    assert genesis not in told.err


def test_a_directory_that_was_cut_is_refused(coalition: Path) -> None:
    """Whoever has seen more of the directory never accepts less again, and one who looks is enough."""
    whole = Path("log.db").read_bytes()
    assert ftf_broker("agency", "suspend", "XBB:police", "--reason", "x", *A).code == 0
    assert ftf_broker("channel", "list", *ME).code == 0
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        Path(name).unlink(missing_ok=True)
    Path("log.db").write_bytes(whole)
    told = ftf_broker("channel", "list", *ME)
    assert told.code == 1
    assert "messages were seen before\nhint: the log has lost or withholds statements" in told.err


def test_others_can_read_the_key_file(coalition: Path) -> None:
    """A key file that others can read is not used."""
    path = coalition / "xaa-police/keys/signing-1.pem"
    path.chmod(0o640)
    assert ftf_broker("channel", "leave", "trio", *ME) == Transcript(
        2, "", f"error: others can read '{path}' (mode 0640)\nhint: run: chmod 600 {path}\n"
    )


def test_a_wrong_passphrase(coalition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which file did not open is said; the passphrase is not."""
    monkeypatch.setenv("FTF_PASSPHRASE", "another one")
    path = coalition / "xaa-police/keys/signing-1.pem"
    assert ftf_broker("channel", "leave", "trio", *ME) == Transcript(
        2,
        "",
        f"error: '{path}' does not open with this passphrase\nhint: check the passphrase, or the file\n",
    )


def test_no_passphrase_and_no_terminal(coalition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nobody is asked; looking at the directory needs no passphrase at all."""
    monkeypatch.delenv("FTF_PASSPHRASE")
    assert ftf_broker("channel", "leave", "trio", *ME) == Transcript(
        2,
        "",
        "error: the passphrase of 'XAA:police' is not given, and there is no terminal to ask\n"
        "hint: set FTF_PASSPHRASE_FILE to a file of mode 0600, or passphrase_file in the profile\n",
    )
    assert ftf_broker("channel", "list", *ME).code == 0


def test_the_passphrase_comes_from_a_file_of_mode_0600(
    coalition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line break at its end does not count; a file that others can read does not open anything."""
    monkeypatch.delenv("FTF_PASSPHRASE")
    file = coalition / "phrase"
    file.write_text("an exercise\n")
    file.chmod(0o600)
    monkeypatch.setenv("FTF_PASSPHRASE_FILE", str(file))
    assert ftf_broker("channel", "leave", "trio", *ME).code == 0
    file.chmod(0o644)
    told = ftf_broker("channel", "close", "trio", *A)
    assert told == Transcript(
        2, "", f"error: others can read '{file}' (mode 0644)\nhint: run: chmod 600 {file}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("channel", "lst"), "no such command 'lst'. Did you mean 'list'?"),
        (("channel", "open"), "missing argument 'NAME'"),
        (("agency", "suspend", "XBB:police"), "missing option '--reason'"),
        (("channel", "list", "--nope"), "no such option '--nope'"),
    ],
)
def test_wrong_usage_is_said_in_one_line_with_where_to_look(arguments: tuple[str, ...], error: str) -> None:
    """click's sentences, in the words of this package, and exit code 2."""
    told = ftf_broker(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.splitlines()[0].lower() == f"error: {error}".lower()
    assert told.err.splitlines()[1].startswith("hint: ftf-broker")


def test_nobody_of_that_name(coalition: Path) -> None:
    """The hint lists whom there is."""
    assert ftf_broker("agency", "suspend", "XQQ:police", "--reason", "x", *A) == Transcript(
        2,
        "",
        "error: nobody in the directory is called 'XQQ:police'\n"
        "hint: there are: XAA:police, XBB:police, XCC:border, XDD:justice, auditor, kas\n",
    )


def test_who_may_not_say_something_is_told_so(coalition: Path) -> None:
    """A member cannot suspend another: what it signs is not the authority's."""
    told = ftf_broker("agency", "suspend", "XBB:police", "--reason", "x", "--out", "s", *ME)
    assert told.code == 0
    assert "'agency-suspended' has 0 of the 2 authority signatures that it needs" in told.err


def test_a_bug_is_called_a_bug_and_shows_no_traceback(
    coalition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unexpected exceptions end in one line and exit code 3; FTF_DEBUG=1 shows where."""

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(agency, "channels_of", breaks)
    told = ftf_broker("agency", "list", *A)
    assert told == Transcript(
        3,
        "",
        "error: internal error: ZeroDivisionError: division by zero; this is a bug\n"
        "hint: set FTF_DEBUG=1 to see where, and report it\n",
    )
    monkeypatch.setenv("FTF_DEBUG", "1")
    assert "Traceback (most recent call last)" in ftf_broker("agency", "list", *A).err


def test_ctrl_c_ends_with_130(coalition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """'stopped' on stderr, nothing on stdout."""

    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(agency, "channels_of", interrupts)
    assert ftf_broker("agency", "list", *A) == Transcript(130, "", "stopped\n")


def test_errors_of_tasks_that_ran_side_by_side_are_told_as_one(
    coalition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of our errors is the first of them; a group with a foreign one is a bug."""
    from broker.errors import LogUnavailable

    error: ExceptionGroup[Exception] = ExceptionGroup("tasks", [LogUnavailable("gone", hint="wait")])

    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(agency, "channels_of", breaks)
    assert ftf_broker("agency", "list", *A) == Transcript(3, "", "error: gone\nhint: wait\n")
    error = ExceptionGroup("tasks", [LogUnavailable("gone"), ValueError("x")])
    assert "internal error" in ftf_broker("agency", "list", *A).err


def test_every_help_has_an_example() -> None:
    """Each command's help shows how it is typed."""
    for words in _commands():
        told = ftf_broker(*words, "--help")
        assert told.code == 0, words
        assert f"ftf-broker {' '.join(words)}" in told.out.split("Usage:")[1].split("\n", 1)[1], words


def _commands() -> list[list[str]]:
    import click

    found: list[list[str]] = []

    def walk(command: click.Command, words: list[str]) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, [*words, name])
        else:
            found.append(words)

    walk(main.cli, [])
    return found


def test_whoever_stops_reading_gets_no_traceback(coalition: Path) -> None:
    """As after ``| head -1``: exit code 141, and nothing on stderr."""
    command = Path(sys.executable).with_name("ftf-broker")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        told = subprocess.run(
            [command, "channel", "list", *A], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (told.returncode, told.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [("channel", "list", "--json", *A), ("channel", "list", *A)])
def test_a_full_disk_is_said_and_is_no_bug(coalition: Path, arguments: tuple[str, ...]) -> None:
    """What cannot be written is something outside that failed."""
    command = Path(sys.executable).with_name("ftf-broker")
    with open("/dev/full", "wb") as full:
        told = subprocess.run([command, *arguments], stdout=full, stderr=subprocess.PIPE, check=False)
    assert told.returncode == 3
    assert told.stderr == b"error: the system refuses: No space left on device\n"


def test_the_installed_command_runs(tmp_path: Path) -> None:
    """The entry point of the distribution: version on stdout, errors on stderr."""
    command = Path(sys.executable).with_name("ftf-broker")
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("ftf-broker, version ")
    told = subprocess.run(
        [command, "channel", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: no profile is chosen\n")
