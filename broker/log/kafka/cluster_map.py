"""The map of a cluster, as its brokers described it: which of them are up, and where each partition is. Pure.

The map may be old at any time. A broker that is asked with an old map refuses (NOT_LEADER) or does not
answer, and then the caller forgets or learns the topic again. So nothing here has to be right, only to become
right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.errors import LogUnavailable
from broker.log.kafka.error_codes import FORBIDDEN_HINT, Code
from broker.log.kafka.wire import Address, Cluster, PartitionAt

__all__ = ["ClusterMap"]


class ClusterMap:
    """The brokers and topics that are known. Only :meth:`take` and :meth:`forget` change it."""

    def __init__(self) -> None:
        self._addresses: Mapping[int, Address] = {}
        self._topics: dict[str, dict[int, PartitionAt]] = {}

    @property
    def addresses(self) -> Mapping[int, Address]:
        """The addresses of the brokers that were up, by their ids."""
        return self._addresses

    def topic(self, topic: str) -> Mapping[int, PartitionAt] | None:
        """Return the partitions of a topic by their numbers, or None if the topic is not known to exist."""
        return self._topics.get(topic)

    def partition(self, topic: str, number: int) -> PartitionAt | None:
        """Return where a partition is, or None if it is not known to exist."""
        return self._topics.get(topic, {}).get(number)

    def forget(self, topic: str) -> None:
        """Forget a topic, so that the next caller that needs it asks a broker."""
        self._topics.pop(topic, None)

    def take(self, cluster: Cluster, topics: Iterable[str]) -> None:
        """Take over a broker's answer to a question about these topics.

        Raises LogUnavailable when the cluster does not let us see one of them.
        """
        self._addresses = dict(cluster.brokers)
        for topic in topics:
            code = cluster.errors.get(topic)
            if code == Code.TOPIC_AUTHORIZATION_FAILED:
                raise LogUnavailable(
                    f"the cluster does not let us use topic {topic}",
                    hint=FORBIDDEN_HINT,
                )
            if topic in cluster.topics:
                self._topics[topic] = {place.number: place for place in cluster.topics[topic]}
            elif code in (None, Code.UNKNOWN_TOPIC_OR_PARTITION):
                self._topics.pop(topic, None)
            # Any other code (LEADER_NOT_AVAILABLE, while a topic is being made or moved) says nothing about
            # where partitions are, so the old entry stays.

    def missing(self, topic: str, number: int) -> LogUnavailable:
        """Build the error for a topic or a partition that does not exist."""
        known = self._topics.get(topic)
        if known is None:
            return LogUnavailable(
                f"the cluster has no topic {topic}",
                hint="check the prefix in the log's URL, or have the topic created",
            )
        return LogUnavailable(
            f"topic {topic} has {len(known)} partitions, and no partition {number}",
            hint="have the topic grown: the partition is the channel's number",
        )
