"""A subscriber in a process of its own that writes records to a file, to be killed at any moment.

python jsonl_sink.py FOLDER
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.subscribe.subscriber import Delivered
from support.deliveries import numbered
from support.world import World


async def main(folder: Path) -> None:
    """Write each delivered number as a line; the file's length is committed with the position."""
    async with World.open(folder) as world:
        subscriber = await world.subscriber(state_path=folder / "state.json", autocommit=False)
        async with subscriber:
            with open(folder / "out.jsonl", "ab") as out:
                length = subscriber.sink if isinstance(subscriber.sink, int) else 0
                out.truncate(length)
                out.seek(length)
                count = 0
                async for item in subscriber.deliveries(follow=True):
                    assert isinstance(item, Delivered), item
                    out.write(
                        json.dumps({"number": numbered(item), "offset": item.place.offset}).encode() + b"\n"
                    )
                    out.flush()
                    count += 1
                    print(count, flush=True)
                    if count % 3 == 0:
                        os.fsync(out.fileno())
                        await subscriber.commit(sink=out.tell())


asyncio.run(main(Path(sys.argv[1])))
