"""How a coalition is founded and participants are admitted, as transcripts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from broker.session.key_folder import KeyFolder
from broker.session.profile import Profile, Role
from support.cli_coalition import row
from support.command_line import Transcript, ftf_broker

A = ("--profile", "authority/authority.toml")


def test_init_prints_the_genesis_hash_and_nothing_else_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script reads the hash to pin from stdout; the words for people are on stderr."""
    monkeypatch.chdir(tmp_path)
    told = ftf_broker("init", "Exercise Amber", "authority", "--log", "sqlite:log.db")
    assert told.code == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", told.out)
    assert told.err == (
        f"founded 'Exercise Amber': 2 of 3 authority keys in {tmp_path}/authority/keys\n"
        f"profile  {tmp_path}/authority/authority.toml\n"
        "genesis hash, to be pinned by everybody who takes part:\n"
        f"next: ftf-broker kas init kas FOLDER --like {tmp_path}/authority/authority.toml\n"
    )
    profile = Profile.load(tmp_path / "authority/authority.toml")
    assert (profile.role, profile.genesis.hex()) == (Role.AUTHORITY, told.out.strip())
    assert sorted(path.name for path in profile.keys.iterdir()) == [
        "authority-1.pem",
        "authority-2.pem",
        "authority-3.pem",
    ]
    assert {path.stat().st_mode & 0o777 for path in profile.keys.iterdir()} == {0o600}


def test_the_passphrase_is_asked_for_twice_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file or a variable, the terminal is asked; two entries that differ are asked for again."""
    monkeypatch.delenv("FTF_PASSPHRASE")
    command = str(Path(sys.executable).with_name("ftf-broker"))
    in_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    with subprocess.Popen(
        [sys.executable, "-c", in_terminal, command, "init", "X", str(tmp_path / "a")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""
        for prompt, typed in (
            (b"New passphrase for 'authority': ", b"first"),
            (b"Repeat for confirmation: ", b"other"),
            (b"New passphrase for 'authority': ", b"second"),
            (b"Repeat for confirmation: ", b"second"),
        ):
            seen = b""
            while not seen.endswith(prompt):
                byte = process.stdout.read(1)
                assert byte, shown + seen
                seen += byte
            shown += seen
            process.stdin.write(typed + b"\n")
            process.stdin.flush()
        shown += process.stdout.read()
    assert process.returncode == 0
    assert b"founded 'X'" in shown
    assert b"first" not in shown
    assert b"second" not in shown
    store = KeyFolder(tmp_path / "a/keys", b"second")
    assert len(store.signing("authority")) == 3


def test_init_refuses_a_log_that_holds_a_coalition(coalition: Path) -> None:
    """A log holds one directory, and a second genesis would stay in it for ever."""
    told = ftf_broker("init", "Another", "other", "--log", "sqlite:log.db")
    assert told == Transcript(
        2,
        "",
        f"error: the log 'sqlite:{coalition}/log.db' holds a coalition already\n"
        "hint: choose another file, or another prefix: sqlite:log.db?prefix=exercise\n",
    )


def test_init_refuses_a_threshold_that_is_no_majority(tmp_path: Path) -> None:
    """Two disjoint groups of keys must not both be able to speak for the authority."""
    told = ftf_broker("init", "X", str(tmp_path / "x"), "--keys", "4", "--threshold", "2")
    assert told == Transcript(
        2,
        "",
        "error: --threshold 2 of 4 keys, expected a majority of them\n"
        "hint: for 4 keys say --threshold 3 or more\n",
    )
    assert not (tmp_path / "x").exists()


def test_agency_list_shows_who_takes_part(coalition: Path) -> None:
    """In a pipe a table is plain columns, and a coalition works although its folder was moved."""
    told = ftf_broker("agency", "list", *A)
    assert told == Transcript(
        0,
        "NAME         TITLE                      KIND     STATE   CHANNELS\n"
        "XAA:police   Police of Aldoria          agency   active  trio\n"
        "XBB:police   Police of Borvenia         agency   active  trio\n"
        "XCC:border   Border guard of Cassarine  agency   active  trio\n"
        "XDD:justice  Justice of Dorvale         agency   active\n"
        "auditor      auditor                    auditor  active  trio\n"
        "kas          kas                        kas      active\n",
        "",
    )


def test_the_profile_may_stand_before_or_after_the_command_or_in_the_environment(
    coalition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile is chosen in each of the three ways."""
    after = ftf_broker("channel", "list", "--profile", "kas/kas.toml")
    before = ftf_broker("--profile", "kas/kas.toml", "channel", "list")
    monkeypatch.setenv("FTF_PROFILE", "kas/kas.toml")
    assert before == after == ftf_broker("channel", "list")
    assert after.out == (
        "NR  NAME  KIND          MEMBERS                             EPOCH  STATE\n"
        " 0  trio  multilateral  XAA:police, XBB:police, XCC:border      0  open\n"
    )


def test_a_request_that_the_directory_left_behind_is_made_anew(coalition: Path) -> None:
    """Each statement of the authority names the one before it, so an older request is refused."""
    like = ("--like", "authority/authority.toml")
    for name in ("XEE:one", "XEE:two"):
        assert ftf_broker("agency", "init", name, name[4:], *like).code == 0
    assert ftf_broker("agency", "add", "one/xee-one.statement", *A).code == 0
    stale = ftf_broker("agency", "add", "two/xee-two.statement", *A)
    assert stale.code == 1
    assert stale.err.startswith("error: previous is ")
    assert "(request again)" in stale.err
    assert ftf_broker("agency", "request", "--profile", "two/xee-two.toml").code == 0
    assert ftf_broker("agency", "add", "two/xee-two.statement", *A).code == 0
    assert ftf_broker("agency", "show", "XEE:two", *A, "--json").json["state"] == "active"


def test_only_what_the_command_is_for_is_signed(coalition: Path) -> None:
    """A command that admits an agency does not sign a statement file that suspends one."""
    written = ftf_broker("agency", "suspend", "XBB:police", "--reason", "x", "--out", "s.statement", *A)
    assert written.code == 0
    assert ftf_broker("agency", "add", "s.statement", *A) == Transcript(
        2,
        "",
        "error: 's.statement' holds 'agency-suspended', expected 'agency-admitted'\n"
        "hint: look at it with: ftf-broker statement show s.statement\n",
    )


def test_an_agency_adds_and_revokes_its_own_keys(coalition: Path) -> None:
    """A new key is stored and listed, and a revoked key stays in the list as revoked."""
    me = ("--profile", "xaa-police/xaa-police.toml")
    at_once = ("--sign-with", "authority/authority.toml")
    told = ftf_broker("agency", "key", "add", "--use", "signing", *me, *at_once)
    assert told.code == 0
    assert "pending" not in told.err
    keys = ftf_broker("agency", "show", "XAA:police", *me, "--json").json["keys"]
    signing = [key for key in keys if key["use"] == "signing"]
    assert [key["state"] for key in signing] == ["active", "active"]
    oldest = signing[-1]["key_id"]
    told = ftf_broker("agency", "key", "revoke", oldest[:12], *me)
    assert told.code == 0
    assert "these channels need new keys: trio\n" in told.err
    keys = ftf_broker("agency", "show", "XAA:police", *me, "--json").json["keys"]
    assert [key["state"] for key in keys if key["key_id"] == oldest] == ["revoked"]
    assert ftf_broker("channel", "rotate", "trio", *me).code == 0, "the new key signs now"


def test_a_coalition_without_an_auditor_or_a_service_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening warns, rotating says how to add a service, and publishing has it announce its keys."""
    monkeypatch.chdir(tmp_path)
    authority, police = ("--profile", "authority/authority.toml"), ("--profile", "police/xaa-police.toml")
    like = ("--like", "authority/authority.toml", "--kas", "local:kas/kas.toml")
    opened = ("channel", "open", "pair", "--member", "XAA:police", "--member", "XBB:border", "--type", "all")
    why = ("--purpose", "INVESTIGATION", "--legal-basis", "Treaty, article 7")
    assert ftf_broker("init", "X", "authority", "--keys", "1", "--threshold", "1").code == 0
    for name, folder in (("XAA:police", "police"), ("XBB:border", "border")):
        assert ftf_broker("agency", "init", name, folder, *like).code == 0
        request = f"{folder}/{name.lower().replace(':', '-')}.statement"
        assert ftf_broker("agency", "add", request, *authority).code == 0
    told = ftf_broker(*opened, *why, *authority)
    assert told.code == 0
    assert told.err.splitlines()[0] == (
        "this channel has no auditor, so nobody can prove who read what in it; "
        "name one with: ftf-broker auditor assign"
    )
    assert ftf_broker("channel", "rotate", "pair", *police) == Transcript(
        2,
        "",
        "error: there is no key access service, which must confirm the keys\n"
        "hint: ftf-broker kas init makes one; the authority adds it with ftf-broker kas add\n",
    )
    assert ftf_broker("kas", "init", "kas", "kas", "--like", "authority/authority.toml").code == 0
    assert ftf_broker("kas", "add", "kas/kas.statement", *authority).code == 0
    assert ftf_broker("channel", "rotate", "pair", *police).code == 0
    rows = [row(0, purpose="INVESTIGATION")]
    Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    publish = ("publish", "--channel", "pair", "--type", "ReturnEvent", "rows.jsonl", *police)
    assert ftf_broker(*publish, "--dry-run").code == 0
    assert "announces intake key" not in ftf_broker("log", "inspect", "--topic", "directory", *police).out
    done = ftf_broker(*publish)
    assert (done.code, done.err.splitlines()[-1]) == (0, "taken over by the key access service: 1 batch")
