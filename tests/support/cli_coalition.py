"""A coalition founded through the command line: profiles, keys and log in one folder, copied for each test.

The passphrase of every key is in FTF_PASSPHRASE.

place = CliCoalition.create(tmp_path)
place.run(POLICE, "publish", "--channel", CHANNEL, "--type", "ReturnEvent", str(file))
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from support.command_line import Transcript, ftf_broker
from support.record_data import valid

__all__ = ["BORDER", "CARE", "CHANNEL", "OUTSIDER", "PAIR", "POLICE", "READING", "CliCoalition", "row"]

POLICE, BORDER, CARE, OUTSIDER = "XAA:police", "XBB:border", "XCC:care", "XDD:rehabilitation"
CHANNEL = "repatriation"
"""Police, border and care; every type and purpose but PREVENTION; a mandate XBB-7 of the border police."""
PAIR = "xaa-xbb"
"""Police and border; justice measures for investigations, kept for a year."""
READING = (
    "--person", "officer-17", "--role", "analyst", "--legal-basis", "Treaty, article 7",
    "--justification", "Follow-up of a return",
)  # fmt: skip
"""What every reading must say, but for its purpose."""

_PURPOSES = ("INVESTIGATION", "PROSECUTION", "PUBLIC_SECURITY", "CHILD_PROTECTION", "REHAB_REINTEGRATION")


@dataclass(frozen=True, slots=True)
class CliCoalition:
    """Where the coalition lies."""

    folder: Path

    @classmethod
    def create(cls, tmp_path: Path) -> CliCoalition:
        """A fresh copy of the coalition; its profiles are relative, so it can be copied."""
        folder = tmp_path / "coalition"
        shutil.copytree(_founded(), folder)
        return cls(folder)

    @classmethod
    def found(cls, folder: Path, url: str) -> CliCoalition:
        """Found the coalition in this folder, which is new, on a new log."""
        folder.mkdir()
        place = cls(folder)
        _found(place, url)
        return place

    def profile(self, name: str) -> Path:
        """The profile of a participant: an agency, ``auditor``, ``kas`` or ``authority``."""
        slug = name.lower().replace(":", "-")
        return self.folder / slug / f"{slug}.toml"

    def run(self, name: str, *arguments: str | Path) -> Transcript:
        """Run a command as this participant."""
        return ftf_broker("--profile", str(self.profile(name)), *(str(one) for one in arguments))

    def publish(
        self, rows: Sequence[Mapping[str, Any]], *, name: str = POLICE, channel: str = CHANNEL
    ) -> None:
        """Publish rows that must be right, all of one type."""
        file = self.lines(rows, f"published-{len(list(self.folder.iterdir()))}.jsonl")
        record_type = str(rows[0]["record_type"])
        done = self.run(name, "publish", "--channel", channel, "--type", record_type, file)
        assert done.code == 0, done.err

    def lines(self, rows: Sequence[Mapping[str, Any]], file_name: str = "rows.jsonl") -> Path:
        """A file of JSON Lines."""
        path = self.folder / file_name
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return path


def row(number: int = 0, record_type: str = "ReturnEvent", **changes: object) -> dict[str, Any]:
    """A right row about person ``number``; changes by dotted path, with ``__`` for the dot."""
    today = datetime.now(UTC).date()
    fixed: dict[str, object] = {
        "handling.codes": [],
        "review_by": str(today + timedelta(days=100)),
        "erase_by": str(today + timedelta(days=300)),
        "body.subject.ref": f"6f9619ff-8b86-4011-b42d-{number:012x}",
    }
    return valid(record_type, fixed | {path.replace("__", "."): value for path, value in changes.items()})


@cache
def _founded() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ftf-cli-")) / "coalition"
    return CliCoalition.found(folder, f"sqlite:{folder / 'log.db'}").folder


def _found(place: CliCoalition, url: str) -> None:
    folder = place.folder
    authority = place.profile("authority")
    log = ("--log", url)
    _must("init", "Exercise Amber", str(authority.parent), *log, "--keys", "1", "--threshold", "1")
    like = ("--like", str(authority), "--kas", f"local:{place.profile('kas')}")
    _must("kas", "init", "kas", str(place.profile("kas").parent), *like)
    _must("kas", "add", str(folder / "kas" / "kas.statement"), "--profile", str(authority))
    for name in (POLICE, BORDER, CARE, OUTSIDER):
        home = place.profile(name).parent
        _must("agency", "init", name, str(home), *like)
        _must("agency", "add", str(home / f"{home.name}.statement"), "--profile", str(authority))
    home = place.profile("auditor").parent
    _must("auditor", "init", "auditor", str(home), *like)
    _must("auditor", "add", str(home / "auditor.statement"), "--profile", str(authority))
    _open(
        place, CHANNEL, (POLICE, BORDER, CARE), "all", _PURPOSES, "1830", ("XBB-7", BORDER, "INVESTIGATION")
    )
    _open(place, PAIR, (POLICE, BORDER), "JusticeMeasure", ("INVESTIGATION",), "366", None)


def _open(
    place: CliCoalition,
    name: str,
    members: Sequence[str],
    record_type: str,
    purposes: Sequence[str],
    ceiling_days: str,
    mandate: tuple[str, str, str] | None,
) -> None:
    _must(
        "channel", "open", name,
        *(word for one in members for word in ("--member", one)),
        *(word for one in purposes for word in ("--purpose", one)),
        *(("--mandate", *mandate) if mandate else ()),
        "--type", record_type, "--ceiling-days", ceiling_days, "--legal-basis", "Exercise treaty, article 7",
        "--profile", str(place.profile("authority")),
    )  # fmt: skip
    _must("channel", "rotate", name, "--profile", str(place.profile(POLICE)))
    _must("kas", "announce", "--profile", str(place.profile("kas")))


def _must(*arguments: str) -> None:
    done = ftf_broker(*arguments)
    assert done.code == 0, (arguments, done.err)
