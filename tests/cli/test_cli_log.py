"""``log check`` and ``log acl``, as transcripts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from support.command_line import ftf_broker
from support.kafka import Kafka


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


def test_the_embedded_log_has_no_policy(tmp_path: Path) -> None:
    """``log check`` is about Kafka; the embedded log is named as what it is."""
    told = ftf_broker("log", "check", "--log", f"sqlite://{tmp_path}/log.db")
    assert told.code == 2
    assert "is the embedded one" in told.err


@pytest.mark.kafka
def test_check_says_each_difference(kafka: Kafka) -> None:
    """Each difference is a line, the number goes to stderr, and the answer is no."""
    url = kafka.url(replication=1, min_insync=1)
    told = ftf_broker("log", "check", "--log", url)
    assert told.code == 1
    lines = told.out.splitlines()
    assert "the cluster has no authorizer: every client that reaches it may do everything" in lines
    assert sum(line.endswith(" does not exist") for line in lines) == 9
    assert f"{len(lines)} differences from the policy" in told.err
    told = ftf_broker("log", "check", "--log", url, "--json")
    assert json.loads(told.out)["differences"] == lines


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
