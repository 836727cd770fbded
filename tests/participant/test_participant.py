"""A participant as a value: its readers know its keys, its directory, and where the directory was altered."""

from __future__ import annotations

import ast
from pathlib import Path

import broker
from broker.log.protocol import Partition
from broker.log.sqlite.sqlite_log import SqliteLog
from broker.participant.follower import DirectoryFollower
from broker.participant.participant import Participant
from broker.verify.violations import Kind, Place, Violation
from support.audit_log import alter
from support.coalition import AUDITOR, POLICE_B
from support.world import CHANNEL, World

RETURNS = Partition("returns", 0)


async def _violations(participant: Participant) -> list[Violation]:
    reader = participant.reader(participant.directory.channels[CHANNEL], "returns")
    end = await participant.end_of(RETURNS)
    events = [event async for event in participant.read(reader, end=end)]
    return [event for event in (*events, *reader.flush(at_end=True)) if isinstance(event, Violation)]


async def test_a_member_and_an_auditor_read_what_is_right(tmp_path: Path) -> None:
    """A member and an auditor hold the metadata key, and read a channel's batches without a violation."""
    async with World.open(tmp_path) as world:
        await world.publish(3)
        assert await _violations(await world.participant(POLICE_B)) == []
        assert await _violations(await world.participant(AUDITOR)) == []


async def test_no_reader_accuses_an_issuer_of_a_directory_that_somebody_altered(tmp_path: Path) -> None:
    """A batch whose issuer saw another directory is blamed on the altered statement, not on the issuer."""
    async with World.open(tmp_path) as world:
        await world.publish(1)
        genesis = world.coalition.genesis
        keyring = world.keyring(POLICE_B)
        last = world.coalition.directory.size - 1
    alter(
        tmp_path / "log.db",
        lambda log: log.execute(
            "UPDATE message SET value = ? WHERE topic = 'ftf.directory' AND offset = ?", (b"altered", last)
        ),
    )
    async with await SqliteLog.open(tmp_path / "log.db") as log:
        follower = await DirectoryFollower.start(log, genesis)
        found = await _violations(Participant(log=log, follower=follower, keyring=keyring))
    assert found[0].kind is Kind.VIEW_UNKNOWN
    assert found[0].caused_by == Place("directory", 0, last)
    assert [violation for violation in found if violation.caused_by is None] == []


def test_only_a_participant_makes_readers() -> None:
    """A reader made elsewhere would not know where the directory was altered."""
    root = Path(broker.__file__).parent
    makers = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "PartitionReader"
    }
    assert makers == {"participant/participant.py"}
