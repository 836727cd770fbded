"""Keys that are pending: who sees them, and what puts them in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.clock import HOUR_US, system_clock
from broker.services.kas import local
from support.command_line import ftf_broker

ME = ("--profile", "xaa-police/xaa-police.toml")


def test_a_pending_key_is_told_by_every_command_of_its_owner(coalition: Path) -> None:
    """What is pending, since when, by whom, and how to revoke it stands on stderr until it is revoked."""
    told = ftf_broker("agency", "key", "add", "--use", "receiving", *ME)
    assert told.code == 0
    assert "is pending, added" in told.err
    keys = ftf_broker("agency", "key", "list", *ME, "--json")
    (pending,) = [key for key in keys.json if key["state"] == "pending"]
    said = ftf_broker("channel", "list", *ME).err
    assert f"receiving key {pending['key_id']} of XAA:police is pending, added" in said
    assert "by XAA:police\n" in said
    assert "if it is not yours, now: ftf-broker agency key revoke KEY\n" in said
    assert "pending" not in ftf_broker("channel", "list", "--profile", "xdd-justice/xdd-justice.toml").err
    assert (
        "is pending"
        in ftf_broker("agency", "key", "list", "XAA:police", "--profile", "xdd-justice/xdd-justice.toml").err
    )
    assert ftf_broker("agency", "key", "revoke", pending["key_id"][:12], *ME).code == 0
    assert "pending" not in ftf_broker("channel", "list", *ME).err


def test_the_authority_signs_a_file_and_the_key_is_in_force(coalition: Path) -> None:
    """A file that the agency and the authority signed puts the key in force at once."""
    out = ("--out", "key.statement")
    assert ftf_broker("agency", "key", "add", "--use", "receiving", *ME, *out).code == 0
    authority = ("--profile", "authority/authority.toml")
    assert ftf_broker("statement", "sign", "--yes", "key.statement", *authority).code == 0
    assert ftf_broker("statement", "submit", "key.statement", *ME).code == 0
    keys = ftf_broker("agency", "key", "list", *ME, "--json").json
    assert {key["state"] for key in keys} == {"active"}


def test_the_service_tells_the_time_at_most_hourly(coalition: Path) -> None:
    """A command that opens the service while a key is pending appends a clock, and the next ones none."""
    kas = ("--profile", "kas/kas.toml")
    assert ftf_broker("agency", "key", "add", "--use", "receiving", *ME).code == 0
    for _ in range(2):
        assert ftf_broker("kas", "announce", *kas).code == 0
        said = ftf_broker("log", "inspect", "--topic", "directory", *ME).out
        assert said.count("directory-clock") == 1


def test_two_hosts_whose_clocks_differ_fill_no_log(coalition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is hours ahead and one that is right tell the time hourly, each by its own clock."""
    kas = ("--profile", "kas/kas.toml")
    assert ftf_broker("agency", "key", "add", "--use", "receiving", *ME).code == 0
    for hours in (0, 5, 0, 5, 0):
        monkeypatch.setattr(local, "system_clock", lambda ahead=hours * HOUR_US: system_clock() + ahead)
        assert ftf_broker("kas", "announce", *kas).code == 0
    said = ftf_broker("log", "inspect", "--topic", "directory", *ME).out
    assert said.count("directory-clock") == 2
