"""A subscription at work: records are shown or written as they come, denials and violations go to stderr."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from uuid import UUID

from broker.cli.output import note
from broker.cli.read.subscription import OutFile
from broker.show.meanings import KINDS, reason_meaning, violation_line
from broker.show.record_view import delivered_json
from broker.show.text import counted
from broker.subscribe.subscriber import Delivered, Delivery, NotDelivered, Subscriber
from broker.verify.violations import Violation

__all__ = ["Feed"]

_COMMIT_RECORDS = 256
_COMMIT_S = 1.0

# A flood of denials or violations must not push everything else off the terminal; all of them are counted.
_SHOWN_DENIALS = 20
_SHOWN_VIOLATIONS = 100


class Feed:
    """Reads what a subscriber delivers, and counts it.

    ``_uncommitted`` counts the items since the last commit. The timer in ``_write`` and the loop in
    ``_take`` both look at it; they run on one event loop, so no lock is needed.
    """

    def __init__(self, channel: str, show: Callable[[Delivered], None], *, follow: bool) -> None:
        self.delivered = 0
        self.denied: Counter[str] = Counter()
        self.violations = 0
        self._channel = channel
        self._show = show
        self._follow = follow
        self._uncommitted = 0

    async def read(self, subscriber: Subscriber, out_path: Path | None) -> None:
        """Take everything that the subscriber delivers. When it is cancelled, what was taken is kept."""
        async with subscriber:
            if out_path is None:
                await self._take(subscriber, self._show)
                return
            with OutFile.open(out_path, subscriber.sink) as file:
                await self._write(subscriber, file)

    def say(self, out_path: Path | None) -> None:
        """Print in words what was delivered and what was not."""
        where = f" to {out_path}" if out_path else ""
        note(f"delivered {counted(self.delivered, 'record')}{where}", style="green" if self.delivered else "")
        for reason, count in self.denied.most_common():
            meaning = reason_meaning(reason)
            note(f"not delivered {counted(count, 'record')} ({reason}): {meaning.text}", style="yellow")
            note(f"  {meaning.advice}")
        if self.violations:
            note(
                f"found {counted(self.violations, 'violation')}: ftf-broker audit replay says more",
                style="red",
            )

    async def _write(self, subscriber: Subscriber, file: OutFile) -> None:
        async def commit() -> None:
            # The lines become durable before the position does: a position must never say that a record is
            # written which a crash could still take away.
            sink = file.sync()
            self._uncommitted = 0
            # Commit point: length and position are stored together. After a crash the lines behind this
            # length are cut off, and their records come again.
            await subscriber.commit(sink=sink)

        async def commit_in_time() -> None:
            while True:
                await asyncio.sleep(_COMMIT_S)
                if self._uncommitted:
                    await commit()

        def write(item: Delivered) -> None:
            try:
                file.write(delivered_json(item, self._channel))
            except BaseException:
                # A line that was not written whole must not be committed as done.
                self._uncommitted = 0
                raise

        # The empty file is committed first. From then on it belongs to this subscription, and lines that a
        # crash leaves in it can be cut off and are not taken for a foreign file.
        await commit()
        timer = asyncio.create_task(commit_in_time(), name="commit")
        try:
            await self._take(subscriber, write, commit)
        finally:
            timer.cancel()
            with suppress(asyncio.CancelledError):
                await timer
            # After an error or Ctrl-C the lines that were written whole are kept.
            if self._uncommitted:
                await commit()

    async def _take(
        self,
        subscriber: Subscriber,
        take: Callable[[Delivered], None],
        commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        async with aclosing(subscriber.deliveries(follow=self._follow)) as items:
            async for item in items:
                # The item is counted before it is written. The timer cannot run in between, because nothing
                # here waits.
                self._uncommitted += 1
                self._count(item)
                if isinstance(item, Delivered):
                    take(item)
                if commit is not None and self._uncommitted >= _COMMIT_RECORDS:
                    await commit()

    def _count(self, item: Delivery) -> None:
        match item:
            case Delivered():
                self.delivered += 1
            case NotDelivered():
                self.denied[item.reason] += 1
                if self.denied.total() <= _SHOWN_DENIALS:
                    note(f"not delivered: {_named(item)}: {item.reason}", style="yellow")
            case Violation():
                self.violations += 1
                if self.violations <= _SHOWN_VIOLATIONS:
                    note(f"violation: {violation_line(item)}", style="red")
                    note(f"  {KINDS[item.kind]}", style="dim")


def _named(item: NotDelivered) -> str:
    return f"record {UUID(bytes=item.record_id)} of {item.issuer} at {item.place}, index {item.index}"
