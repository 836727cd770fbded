"""``log inspect`` as transcripts: what the holder of a profile can see of the log."""

from __future__ import annotations

import re
from pathlib import Path

from support.command_line import Transcript, ftf_broker

A = ("--profile", "authority/authority.toml")


def test_without_a_topic_it_tells_how_much_there_is(coalition: Path) -> None:
    """Without options every topic and partition is listed with its number of messages."""
    told = ftf_broker("log", "inspect", *A)
    assert told.code == 0
    assert told.out.splitlines()[0].split() == ["TOPIC", "PARTITION", "CHANNEL", "MESSAGES"]
    assert told.out.splitlines()[2:] == [
        f"{topic:<14}          0  trio            0"
        for topic in ("emergence", "justice", "rehabilitation", "relocation", "returns", "access")
    ]


def test_the_directory_is_told_in_words(coalition: Path) -> None:
    """Everybody can read the directory, and no passphrase is needed for it."""
    told = ftf_broker("log", "inspect", "--topic", "directory", "--limit", "2", *A)
    assert told.code == 0
    lines = [re.sub(r"  +", "|", line) for line in told.out.splitlines()]
    assert lines[0] == "OFFSET|APPENDED|KIND|EPOCH|SIZE|WHAT CAN BE SEEN"
    assert "|authority founds 'Exercise Amber' with 3 authority keys, of which 2 sign together: " in lines[1]
    assert "authority admits agency XAA:police (Police of Aldoria) with signing key " in lines[2]


def test_a_statement_that_does_not_count_is_said_so(coalition: Path) -> None:
    """A message of the directory that is not a valid statement is shown as one that does not count."""
    import asyncio

    from broker.log import Message, Partition, open_log

    async def write() -> None:
        async with open_log("sqlite:log.db") as log:
            await log.append(Partition("directory", 0), [Message(b"", b"junk")])

    asyncio.run(write())
    told = ftf_broker("log", "inspect", "--topic", "directory", "--json", *A)
    last = told.json[-1]
    assert (last["kind"], last["counts"]) == ("unknown", False)


def test_unknown_topic(coalition: Path) -> None:
    """The hint lists the topics that there are."""
    told = ftf_broker("log", "inspect", "--topic", "nope", *A)
    assert told == Transcript(
        2,
        "",
        "error: there is no topic 'nope'\n"
        "hint: there are: emergence, justice, rehabilitation, relocation, returns, access, directory\n",
    )
