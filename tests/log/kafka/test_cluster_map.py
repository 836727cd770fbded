"""The map of a cluster: each answer of a broker changes what it speaks of, and nothing else."""

from __future__ import annotations

import pytest

from broker.errors import LogUnavailable
from broker.log.kafka.cluster_map import ClusterMap
from broker.log.kafka.error_codes import Code
from broker.log.kafka.wire import Cluster, PartitionAt

TOPIC = "ftf.returns"
FIRST = PartitionAt(0, 1, (1, 2, 3), (1, 2))
SECOND = PartitionAt(1, 2, (2, 3, 1), (2, 3))


def answer(*partitions: PartitionAt, code: int | None = None) -> Cluster:
    """Build a broker's answer about the topic: its partitions, or an error code."""
    return Cluster(
        brokers={1: ("b1", 9092), 2: ("b2", 9092)},
        topics={TOPIC: partitions} if partitions else {},
        errors={} if code is None else {TOPIC: code},
    )


@pytest.fixture
def known() -> ClusterMap:
    """A map that knows the topic with its two partitions."""
    cluster_map = ClusterMap()
    cluster_map.take(answer(FIRST, SECOND), [TOPIC])
    return cluster_map


def test_an_answer_is_taken_over(known: ClusterMap) -> None:
    """Brokers and partitions are those of the newest answer."""
    assert known.addresses == {1: ("b1", 9092), 2: ("b2", 9092)}
    assert known.topic(TOPIC) == {0: FIRST, 1: SECOND}
    assert known.partition(TOPIC, 1) == SECOND
    known.take(answer(FIRST), [TOPIC])
    assert known.partition(TOPIC, 1) is None


def test_an_answer_about_brokers_changes_no_topic(known: ClusterMap) -> None:
    """A question that names no topic leaves the topics as they were."""
    known.take(answer(), [])
    assert known.topic(TOPIC) == {0: FIRST, 1: SECOND}


@pytest.mark.parametrize("code", [None, Code.UNKNOWN_TOPIC_OR_PARTITION])
def test_a_topic_that_does_not_exist_is_forgotten(known: ClusterMap, code: int | None) -> None:
    """When a broker does not know the topic, the map does not know it either."""
    known.take(answer(code=code), [TOPIC])
    assert known.topic(TOPIC) is None


def test_a_topic_without_a_leader_stays(known: ClusterMap) -> None:
    """LEADER_NOT_AVAILABLE says nothing about where partitions are, so they stay as they were."""
    known.take(answer(code=Code.LEADER_NOT_AVAILABLE), [TOPIC])
    assert known.topic(TOPIC) == {0: FIRST, 1: SECOND}


def test_a_topic_that_is_not_ours_to_use(known: ClusterMap) -> None:
    """A topic that the cluster does not let us see is a LogUnavailable that names it."""
    with pytest.raises(LogUnavailable, match=f"does not let us use topic {TOPIC}") as caught:
        known.take(answer(code=Code.TOPIC_AUTHORIZATION_FAILED), [TOPIC])
    assert "log acl" in (caught.value.hint or "")


def test_what_is_missing_is_named(known: ClusterMap) -> None:
    """A missing topic and a missing partition are told apart."""
    assert known.missing(TOPIC, 7).message == f"topic {TOPIC} has 2 partitions, and no partition 7"
    known.forget(TOPIC)
    assert known.missing(TOPIC, 7).message == f"the cluster has no topic {TOPIC}"


def test_each_code_of_an_append_means_one_thing() -> None:
    """No error code is in two of the sets that decide what follows from an append."""
    kinds = [Code.NOT_DONE, Code.UNSURE, Code.LOST_COUNT, {Code.NONE, Code.DUPLICATE_SEQUENCE}]
    assert len(frozenset().union(*kinds)) == sum(len(kind) for kind in kinds)
