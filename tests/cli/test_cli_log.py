"""``log check`` and ``log acl``, as transcripts."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from aiokafka.protocol.admin import DeleteRecordsRequest  # type: ignore[import-untyped]

from broker.log import Message, Partition, open_log, physical
from broker.log.kafka.wire import Connection
from support.command_line import Transcript, ftf_broker
from support.kafka import PLAIN, Kafka
from support.played import played


def test_acl_writes_commands_for_a_shell() -> None:
    """Each principal's role as commands of Kafka's own tools, the denials first; nothing is run."""
    told = ftf_broker(
        "log", "acl", "--agency", "User:CN=xa,O=Police of XA", "--kas", "User:CN=kas", "--prefix", "exercise",
        "--bootstrap-server", "broker1:9093", "--command-config", "operator.properties",
    )  # fmt: skip
    assert (told.code, told.err) == (0, "")
    lines = [shlex.split(line) for line in told.out.splitlines()]
    connect = ["--bootstrap-server", "broker1:9093", "--command-config", "operator.properties"]
    assert all(line[0] in ("kafka-acls", "kafka-configs") and line[1:5] == connect for line in lines)
    assert lines[0][5:8] == ["--add", "--deny-principal", "User:*"]
    [agency, *_] = [line for line in lines if "User:CN=xa,O=Police of XA" in line and "Write" in line]
    assert {word for word in agency if word.startswith("exercise.")} == {
        f"exercise.{topic}"
        for topic in ("directory", "emergence", "justice", "rehabilitation", "relocation", "returns")
    }
    assert lines[-1][-3:] == ["CN=kas", "--add-config", "producer_byte_rate=2000000"]


def test_acl_for_a_program() -> None:
    """With --json the same as values."""
    told = ftf_broker("log", "acl", "--auditor", "User:CN=auditor", "--json")
    value = json.loads(told.out)
    allowed = {
        (acl["operation"], acl["name"]) for acl in value["acls"] if acl["principal"] == "User:CN=auditor"
    }
    assert ("READ", "ftf.access") in allowed
    assert not {operation for operation, _ in allowed} & {"WRITE", "ALL", "DELETE"}
    assert value["quotas"] == []


def test_the_authority_sees_what_there_is_and_reads_no_record() -> None:
    """It looks whether a channel has its partitions before it opens it; reading them is not given to it."""
    told = ftf_broker("log", "acl", "--authority", "User:CN=authority", "--json")
    allowed = {
        (acl["operation"], acl["name"])
        for acl in json.loads(told.out)["acls"]
        if acl["principal"] == "User:CN=authority"
    }
    assert {("DESCRIBE", "ftf.returns"), ("DESCRIBE", "ftf.access"), ("DESCRIBE", "ftf.keys")} <= allowed
    assert {name for operation, name in allowed if operation in ("READ", "WRITE")} == {
        "ftf.directory", "ftf.checkpoints"
    }  # fmt: skip


def test_a_wrong_principal() -> None:
    """A principal that is none is wrong usage, with what to write."""
    told = ftf_broker("log", "acl", "--agency", "CN=xa")
    assert told.code == 2
    assert "error: invalid principal 'CN=xa'" in told.err
    assert "hint: write User:" in told.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The log of a coalition at work, in order."""
    return Path(shutil.copy(played().folder / "log.db", tmp_path / "log.db"))


def checked(file: Path, *changes: str) -> Transcript:
    """Alter a log behind its back, and look it over."""
    with closing(sqlite3.connect(file)) as db, db:
        for change in changes:
            db.execute(change)
    return ftf_broker("log", "check", "--log", f"sqlite:{file}")


def test_a_log_in_order(file: Path) -> None:
    """Nothing is found in a log as it was played, with a profile or without."""
    told = checked(file)
    assert (told.code, told.out) == (0, "")
    assert "found 0 differences" in told.err
    assert ftf_broker("log", "check", "--log", f"sqlite:{file}", "--json").json == {
        "differences": [],
        "findings": [],
    }


AHEAD_MS = 4_000_000_000_000
RETURNS = "topic = 'ftf.returns' AND partition = 0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            f"UPDATE message SET appended_at = {AHEAD_MS} WHERE {RETURNS} AND offset = 1",
            "ftf.returns/0@1 is dated 2096-10-02 07:06:40Z, ahead of this clock",
        ),
        (
            f"UPDATE message SET appended_at = -1 WHERE {RETURNS} AND offset = 2",
            "ftf.returns/0@2 has a date that no clock gives, which counts as 0",
        ),
        (
            f"DELETE FROM message WHERE {RETURNS} AND offset < 2",
            "ftf.returns/0 begins at offset 2: the messages before were deleted",
        ),
        ("INSERT INTO copy VALUES ('ftf', 1)", "this log is a copy that is not finished"),
        ("DELETE FROM message WHERE topic = 'ftf.directory'", "it holds no directory"),
    ],
)
def test_what_is_wrong_with_a_log_is_a_line(file: Path, change: str, said: str) -> None:
    """Each finding is one line, with a date as a date, and names a signer only where a statement counts."""
    told = checked(file, change)
    assert told.code == 1
    [line] = told.out.splitlines()
    assert line == said if "@" in said else line.startswith(said)


def test_a_signer_is_named_only_for_a_statement_that_counts(file: Path) -> None:
    """The directory's own statements tell who signed; bytes that do not verify accuse nobody."""
    newest = (
        "topic = 'ftf.directory' AND offset = (SELECT max(offset) FROM message WHERE topic = 'ftf.directory')"
    )
    told = checked(file, f"UPDATE message SET appended_at = {AHEAD_MS} WHERE {newest}")
    said = r"ftf\.directory/0@\d+ is dated 2096-10-02 07:06:40Z, ahead of this clock"
    assert re.fullmatch(said + r", signed by (kas|authority|X..:\w+)\n", told.out)
    told = checked(file, f"UPDATE message SET value = value || x'00' WHERE {newest}")
    assert re.fullmatch(said + "\n", told.out)


def test_messages_of_no_channel_are_said(file: Path) -> None:
    """Messages in a partition that is no channel's are named with their place and number."""
    told = checked(
        file,
        "UPDATE topic SET partitions = 9 WHERE name = 'ftf.returns'",
        "INSERT INTO message VALUES ('ftf.returns', 7, 0, x'00', x'00', 1)",
        "INSERT INTO message VALUES ('ftf.returns', 7, 1, NULL, NULL, 1)",
    )
    assert told.code == 1
    assert told.out == "ftf.returns/7@0: 2 messages in a partition of no channel\n"


def test_many_dates_are_counted(file: Path) -> None:
    """Of many messages dated ahead the first are named, and the rest is one line."""
    rows = "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1099)"
    told = checked(
        file, f"{rows} INSERT INTO message SELECT 'ftf.returns', 0, i, x'00', x'00', {AHEAD_MS} FROM n"
    )
    lines = told.out.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "ftf.returns/0@1020: from here on 80 messages more dated ahead of this clock"
    answer = ftf_broker("log", "check", "--log", f"sqlite:{file}", "--json").json
    assert answer["differences"] == lines
    assert answer["findings"][0] == {
        "what": "dated-ahead", "topic": "returns", "partition": 0, "offset": 1000, "count": 1,
        "appended_at": "2096-10-02 07:06:40Z", "signer": None,
    }  # fmt: skip
    only = ftf_broker("log", "check", "--log", f"sqlite:{file}", "--settings-only")
    assert (only.code, only.out) == (0, "")


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    """A wrong path is wrong usage, and no file is made there."""
    told = ftf_broker("log", "check", "--log", f"sqlite:{tmp_path}/none.db")
    assert told.code == 2
    assert "there is no log at" in told.err
    assert not (tmp_path / "none.db").exists()


@pytest.mark.kafka
def test_check_says_each_difference(kafka: Kafka) -> None:
    """Each difference is a line, the number goes to stderr, and the answer is no."""
    url = kafka.url(replication=1, min_insync=1)
    told = ftf_broker("log", "check", "--log", url)
    assert told.code == 1
    lines = told.out.splitlines()
    assert "the cluster has no authorizer: every client that reaches it may do everything" in lines
    assert sum(line.endswith(" does not exist") for line in lines) == 9
    assert f"found {len(lines)} differences" in told.err
    told = ftf_broker("log", "check", "--log", url, "--json")
    assert json.loads(told.out)["differences"] == lines


@pytest.mark.kafka
def test_messages_of_no_channel_and_beginnings_on_a_cluster(kafka: Kafka, file: Path) -> None:
    """On a cluster, too, messages in a partition that was added are said, and a deleted beginning."""
    url = kafka.url(replication=1, min_insync=1)
    assert ftf_broker("log", "copy", f"sqlite:{file}", url).code == 0
    before = ftf_broker("log", "check", "--log", url, "--json").json
    assert before["findings"] == []

    async def damage() -> str:
        async with open_log(url) as log:
            await log.ensure("returns", 9)
            await log.append(Partition("returns", 7), [Message(b"", b"\x00")])
            name = physical(log, "returns")
        host, _, port = kafka.address.rpartition(":")
        connection = await Connection.open(host, int(port), PLAIN, 10)
        await connection.call(DeleteRecordsRequest([(name, [(0, 2)])], 10_000), 10)
        await connection.aclose()
        return name

    name = asyncio.run(damage())
    told = ftf_broker("log", "check", "--log", url)
    assert told.code == 1
    assert f"{name}/7@0: 1 message in a partition of no channel" in told.out.splitlines()
    assert f"{name}/0 begins at offset 2: the messages before were deleted" in told.out.splitlines()


@pytest.mark.kafka
def test_topics_are_made_and_grow(kafka: Kafka) -> None:
    """All topics of a coalition, a partition for each channel; said again it changes nothing."""
    url = kafka.url(replication=1, min_insync=1)
    for channels in ("2", "3", "1"):
        told = ftf_broker("log", "topics", "--log", url, "--channels", channels)
        assert (told.code, told.out) == (0, "")
        assert told.err.endswith(
            f"topics for {channels} channel{'' if channels == '1' else 's'}: all there\n"
        )
    told = ftf_broker("log", "check", "--log", url, "--json")
    found = json.loads(told.out)["differences"]
    assert not [one for one in found if "does not exist" in one or "numbers of partitions" in one]


def test_check_of_a_cluster_that_is_not_there() -> None:
    """A cluster that cannot be reached is exit 3, with what to look at."""
    told = ftf_broker("log", "check", "--log", "kafka://127.0.0.1:1?timeout_ms=200")
    assert told.code == 3
    assert "error: the log kafka://127.0.0.1:1 cannot be reached" in told.err
    assert "hint: " in told.err
