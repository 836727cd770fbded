"""A subscriber that fails at every step, once before it and once behind it, and starts again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker import files
from broker.subscribe import receipts, state
from broker.subscribe.asking import Asker
from broker.subscribe.reader_set import ReaderSet
from support.deliveries import numbered
from support.world import World

RECORDS = 8


class Crash(BaseException):
    """The process ends here."""


STEPS: list[Any] = [
    pytest.param(ReaderSet, "next_window", id="reading"),
    pytest.param(Asker, "ask", id="asking"),
    pytest.param(receipts.ReceiptFile, "add", id="keeping the receipt"),
    pytest.param(receipts.ReceiptFile, "sync", id="syncing receipts"),
    pytest.param(state.StateFile, "save", id="saving the state"),
    pytest.param(files, "sync_folder", id="syncing the folder"),
    pytest.param(os, "replace", id="renaming the state"),
]


def crashing(real: Callable[..., Any], after: int, is_behind: bool) -> Callable[..., Any]:
    """Wrap a function so that the call with this number crashes, before or after its work."""
    calls = [0]

    def crashes(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == after and not is_behind:
            raise Crash
        result = real(*args, **options)
        if calls[0] == after:
            if hasattr(result, "close") and hasattr(result, "send"):
                result.close()
            raise Crash
        return result

    return crashes


async def consume(world: World, folder: Path) -> None:
    """Append each record's number to a file, and commit its length after every third."""
    subscriber = await world.subscriber(state_path=folder / "state.json", autocommit=False)
    async with subscriber:
        with open(folder / "out", "ab") as out:
            length = subscriber.sink if isinstance(subscriber.sink, int) else 0
            out.truncate(length)
            out.seek(length)
            count = 0
            async for item in subscriber.deliveries():
                out.write(b"%d\n" % numbered(item))
                out.flush()
                count += 1
                if count % 3 == 0:
                    await subscriber.commit(sink=out.tell())
            await subscriber.commit(sink=out.tell())


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("is_behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(("owner", "name"), STEPS)
async def test_after_a_crash_every_record_is_there_once(
    world: World, tmp_path: Path, owner: object, name: str, is_behind: bool, after: int
) -> None:
    """After a crash at any step the next start goes on, and the file ends with each record once, in order."""
    await world.publish(RECORDS, max_records=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, crashing(getattr(owner, name), after, is_behind))
        try:
            await consume(world, tmp_path)
        except (Crash, BaseExceptionGroup) as error:
            assert isinstance(error, Crash) or error.subgroup(Crash)  # noqa: PT017 - not every step comes thrice
    await consume(world, tmp_path)
    assert [int(line) for line in (tmp_path / "out").read_bytes().split()] == list(range(RECORDS))
