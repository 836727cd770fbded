"""A publisher, a subscriber, the service and the auditor, each as the commands that a person types.

people = Sessions(CliCoalition.create(tmp_path))
people.publish(0, 1)
assert people.subscribe().code == 0
assert people.delivered == [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.cli_coalition import BORDER, CHANNEL, POLICE, READING, CliCoalition, row
from support.command_line import Transcript
from support.process import Process, numbers

__all__ = ["Sessions"]

_WHY = ("--channel", CHANNEL, "--purpose", "INVESTIGATION", *READING)


@dataclass(frozen=True)
class Sessions:
    """The commands of a coalition; the subscriber writes what it gets to a file."""

    place: CliCoalition

    @property
    def out(self) -> Path:
        """The subscriber's file."""
        return self.place.folder / "got.jsonl"

    @property
    def delivered(self) -> list[int]:
        """The persons in the subscriber's file, in order."""
        return numbers(self.out)

    def publish(self, *persons: int, waits: bool = True) -> None:
        """Publish returns of these persons in one batch; ``waits`` until the service took it over."""
        done = self.try_to_publish(*persons, waits=waits)
        assert done.code == 0, done.err
        if waits:
            assert "taken over by the key access service: 1 batch" in done.err, done.err

    def try_to_publish(self, *persons: int, waits: bool = True) -> Transcript:
        """The same, whatever becomes of it."""
        file = self.place.lines([row(one) for one in persons], f"persons-{persons[0]}.jsonl")
        wait = () if waits else ("--wait", "0")
        return self.place.run(POLICE, "publish", "--channel", CHANNEL, "--type", "ReturnEvent", *wait, file)

    def subscribe(self) -> Transcript:
        """Read what is new into the file."""
        return self.place.run(BORDER, "subscribe", *_WHY, "--out", self.out)

    def follow(self) -> Process:
        """Read into the file for as long as the process runs."""
        return Process(self.place, BORDER, "subscribe", *_WHY, "--out", self.out, "--follow")

    def serve(self) -> Transcript:
        """The service does all its work once."""
        return self.place.run("kas", "kas", "run", "--once")

    def acknowledge(self) -> Transcript:
        """The service's operator has looked into the alarm."""
        return self.place.run("kas", "kas", "alarms", "--acknowledge", CHANNEL)

    def replay(self) -> tuple[int, list[tuple[str, str, int]]]:
        """The exit code, and the kind, topic and offset of each root violation."""
        told = self.place.run("auditor", "audit", "replay", "--json")
        roots = [one for one in told.json["violations"] if one.get("caused_by") is None]
        return told.code, [(one["kind"], one["topic"].rpartition(".")[2], one["offset"]) for one in roots]
