"""The commands of the key access service, as transcripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

from support.command_line import Transcript, ftf_broker

KAS = ("--profile", "kas/kas.toml")


def test_announce_twice_announces_once(coalition: Path) -> None:
    """The fixture has announced 14 days ahead, so a second announcement adds nothing."""
    told = ftf_broker("kas", "announce", *KAS)
    assert told == Transcript(0, "", "intake keys announced: none was missing\n")
    statements = ftf_broker("log", "inspect", "--topic", "directory", "--json", *KAS).json
    intake = [message for message in statements if "announces intake key" in message["says"]]
    assert len(intake) == 14


def test_a_service_that_the_directory_does_not_know_is_told(coalition: Path) -> None:
    """It announces nothing before the authority has added it."""
    told = ftf_broker("kas", "init", "other", "other", "--like", "authority/authority.toml")
    assert told.code == 0
    told = ftf_broker("kas", "announce", "--profile", "other/other.toml")
    assert told.code == 1
    assert "nobody in the directory is called 'other'" in told.err


def test_no_alarm_is_open_at_the_beginning(coalition: Path) -> None:
    """The exit code is 0 while there is nothing to look into."""
    assert ftf_broker("kas", "alarms", *KAS) == Transcript(0, "", "no alarm is open\n")
    assert ftf_broker("kas", "alarms", "--json", *KAS) == Transcript(0, "[]\n", "")


def test_an_intake_key_that_is_lost_is_an_alarm(coalition: Path) -> None:
    """The service cannot take over what is sealed to a lost key, so the exit code is 1 until it is back."""
    lost = sorted(Path("kas/keys/service/intake").iterdir())[3]
    day = date(1970, 1, 1) + timedelta(days=int(lost.stem.split("-")[0]))
    kept = lost.rename("kas/lost.pem")
    detail = f"the intake key of {day} is announced, and not in the key store"
    told = ftf_broker("kas", "alarms", *KAS)
    assert told == Transcript(1, f"CHANNEL  RAISED  WHY\nall              {detail}\n", "")
    listed = ftf_broker("kas", "alarms", "--json", *KAS)
    assert listed.code == 1
    assert listed.json == [{"channel": None, "partition": None, "detail": detail, "raised_at": None}]
    kept.rename(lost)
    assert ftf_broker("kas", "alarms", *KAS).code == 0


def test_the_service_is_made_under_a_name(coalition: Path) -> None:
    """NAME and FOLDER are both required, as the help shows."""
    told = ftf_broker("kas", "init", "somewhere", "--like", "authority/authority.toml")
    assert (told.code, told.out) == (2, "")
    assert "FOLDER" in told.err
    assert "kas init [OPTIONS] NAME FOLDER" in ftf_broker("kas", "init", "--help").out


def test_only_the_service_runs_as_the_service(coalition: Path) -> None:
    """The profile of an agency cannot run the service."""
    told = ftf_broker("kas", "run", "--once", "--profile", "xaa-police/xaa-police.toml")
    assert told == Transcript(
        2,
        "",
        "error: 'XAA:police' is no key access service but has the role 'agency'\n"
        "hint: choose a profile of the role 'kas' with --profile\n",
    )


def test_run_once_takes_over_and_ends(coalition: Path) -> None:
    """With nothing published the service says nothing and ends."""
    assert ftf_broker("kas", "run", "--once", *KAS) == Transcript(0, "", "")


def test_ctrl_c_stops_the_running_service_cleanly(coalition: Path) -> None:
    """The exit code is 130 without a traceback, and the service runs again afterwards."""
    command = Path(sys.executable).with_name("ftf-broker")
    with subprocess.Popen(
        [command, "kas", "run", *KAS], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert first == "'kas' follows every channel; Ctrl-C ends it\n"
    assert (process.returncode, rest) == (130, "stopped\n")
    assert ftf_broker("kas", "run", "--once", *KAS).code == 0


def test_a_second_service_is_announced_only_by_the_old_one_or_after_72_hours(coalition: Path) -> None:
    """The authority alone cannot put another key access service in place at once."""
    authority = ("--profile", "authority/authority.toml")
    told = ftf_broker("kas", "init", "other", "other", "--like", "authority/authority.toml", "--json")
    assert told.code == 0
    request = told.json["request"]
    assert json.loads(Path(request).read_text())["says"][0].startswith("authority announces signing key ")
    ftf_broker("kas", "add", request, *authority)
    keys = ftf_broker("agency", "list", "--json", *authority).json
    other = [party for party in keys if party["name"] == "other"]
    assert all(key["state"] == "pending" for party in other for key in party["keys"])
