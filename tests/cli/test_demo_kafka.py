"""The demo on a Kafka that others use too."""

from __future__ import annotations

from pathlib import Path

from broker.cli.demo.founding import with_own_prefix
from broker.session import Profile
from support.command_line import ftf_broker
from support.kafka import Kafka


def test_two_demos_on_one_broker_do_not_meet(kafka: Kafka, tmp_path: Path) -> None:
    """Each has a prefix of its own, which its profiles name; both verify."""
    played = [
        ftf_broker("demo", "--dir", str(tmp_path / name), "--log", f"kafka://{kafka.address}", "--json")
        for name in ("one", "two")
    ]
    assert [one.code for one in played] == [0, 0], [one.err for one in played]
    assert all(one.json["verified"] and one.json["violations"] == 0 for one in played)
    logs = [Profile.load(Path(one.json["profiles"]["auditor"])).log for one in played]
    assert len(set(logs)) == 2
    assert all(f"kafka://{kafka.address}?prefix=demo-" in one for one in logs)


def test_a_prefix_that_is_given_stays() -> None:
    """So does every other part of the address, and a file needs none."""
    for url in ("kafka://one:9092,two:9092?prefix=amber", "sqlite:/srv/log.db"):
        assert with_own_prefix(url) == url
    assert with_own_prefix("kafka://one:9092?ca=x").startswith("kafka://one:9092?ca=x&prefix=demo-")
