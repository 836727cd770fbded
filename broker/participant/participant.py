"""The participant: log, directory, keys, schemas and clock, as one value that is passed whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from broker.avro.schema import SchemaStore, default_store
from broker.clock import Clock, system_clock
from broker.crypto.log_tree import LogTree
from broker.directory import Channel, Directory, EpochKey, Use
from broker.errors import UsageError
from broker.log.protocol import Log, Partition
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.reading import read_events
from broker.verify.entitlement import ACCESS_TOPIC
from broker.verify.partition import Event, PartitionReader, ReaderState
from broker.verify.violations import Place

__all__ = ["Participant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One participant's log, directory, keys, schemas and clock.

    ``follower`` is the only mutable part that several tasks share. It serialises its own reading, so a
    task may call ``follower.refresh()`` at any time; ``directory`` is then the newest state for all.
    """

    log: Log
    follower: DirectoryFollower
    keyring: Keyring
    store: SchemaStore = field(default_factory=default_store)
    """The record types that this participant knows."""
    clock: Clock = system_clock

    @property
    def name(self) -> str:
        """The name under which the directory lists this participant."""
        return self.keyring.name

    @property
    def directory(self) -> Directory:
        """The directory as far as it was read."""
        return self.follower.history.latest

    def channel(self, name: str) -> Channel:
        """Return the channel of this name; raises UsageError when the directory has none."""
        channel = self.directory.channel(name)
        if channel is None:
            raise UsageError(f"there is no channel '{name}'", hint="check its name")
        return channel

    def epoch_keys(self, channel: Channel, topic: str) -> Callable[[int], EpochKey | None]:
        """Return a function from an epoch to our key for its manifests in this topic.

        The access log of a channel is sealed to its auditors and to the key access service. Every other
        topic is sealed to the channel's members too.
        """
        use: Use = "access" if topic == ACCESS_TOPIC else "metadata"
        # The directory is looked up at each call, because a reader lives longer than one state of the
        # directory.
        return lambda epoch: self.keyring.epoch_key(self.directory, channel.name, epoch, use)

    def reader(
        self,
        channel: Channel,
        topic: str,
        *,
        state: ReaderState | None = None,
        keep_bodies: bool = True,
        tree: LogTree | None = None,
        directory_fault: Callable[[int], Place | None] | None = None,
    ) -> PartitionReader:
        """Return a reader of the channel's partition of one topic, with our keys and our directory.

        Every reader of a log is made here, so that each knows where the directory was altered. Without that
        an honest issuer would be accused because it had seen the directory as it was before.
        ``tree`` is the tree of the partition up to where the reader begins, for a caller that wants roots.
        ``directory_fault`` replaces the follower's own answer where the caller knows more, as a replay does.
        """
        return PartitionReader(
            topic=topic,
            partition=channel.number,
            history=self.follower.history,
            keys=self.epoch_keys(channel, topic),
            keep_bodies=keep_bodies,
            state=state,
            tree=tree,
            directory_fault=directory_fault or self.follower.fault,
        )

    def read(self, reader: PartitionReader, *, end: int | None = None) -> AsyncGenerator[Event, None]:
        """Yield what the reader finds from its next offset up to ``end``; without one, follow for ever."""
        return read_events(self.log, reader, self.follower, end=end)

    async def end_of(self, partition: Partition) -> int:
        """Return the offset behind the partition's last message, as it is now."""
        return (await self.log.ends([partition]))[partition]
