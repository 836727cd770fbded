"""Topics that are created and grown by the policy, and clusters that are compared with it.

Nothing relies on topics that brokers create by themselves: those would have the brokers' default settings,
which delete records after a week and let producers tell the time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from broker.errors import LogUnavailable, UsageError
from broker.log.copyable import TopicShape
from broker.log.kafka import admin
from broker.log.kafka.acl import COPY_TOPIC
from broker.log.kafka.brokers import Brokers
from broker.log.kafka.cluster_policy import (
    COMPACTED_TOPICS,
    BrokerSettings,
    ClusterView,
    TopicSettings,
    differences,
    topic_settings,
)
from broker.log.kafka.connections import Use
from broker.log.kafka.deadline import Deadline
from broker.log.kafka.error_codes import Code, refusal
from broker.log.kafka.wire import Connection, NoAnswer, NotSent
from broker.logger import get_logger

__all__ = [
    "all_topics", "check_policy", "cluster_view", "ensure_topic", "is_marked", "remove_mark", "set_times",
    "wanted_copies",
]  # fmt: skip

_log = get_logger("broker.log")


async def ensure_topic(
    brokers: Brokers,
    topic: str,
    partitions: int,
    deadline: Deadline,
    *,
    compacted: bool,
    copying: bool = False,
) -> bool:
    """Create a topic or grow it, and return when all of its partitions have a leader.

    A topic that is created while a log is copied (``copying``) keeps the times that messages bring.
    Returns whether the topic was created or grown. Another process may do the same at the same time.
    """
    grown = False
    while True:
        await brokers.learn([topic], deadline)
        known = brokers.topic(topic)
        if known is None:
            outcome = await _create(
                brokers, topic, partitions, deadline, compacted=compacted, copying=copying
            )
            ready = outcome.code in (Code.NONE, Code.TOPIC_ALREADY_EXISTS)
            grown = True
        elif len(known) < partitions:
            # Checked before the topic is grown: one of the other kind must not be changed.
            await _check_kind(brokers, topic, compacted, deadline)
            outcome = await brokers.ask(
                lambda connection, left_s: admin.grow_topic(connection, topic, partitions, left_s), deadline
            )
            # INVALID_PARTITIONS: another process has made it as large, or larger, and the broker that we
            # asked first has not heard of that yet.
            ready = outcome.code in (Code.NONE, Code.INVALID_PARTITIONS)
            grown = True
        elif any(place.leader < 0 for place in known.values()):
            outcome = admin.Outcome(Code.LEADER_NOT_AVAILABLE, "it has partitions without a leader")
            ready = True
        else:
            await _check_kind(brokers, topic, compacted, deadline)
            _check_copies(brokers, topic)
            return grown
        if outcome.code in (Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED):
            raise LogUnavailable(
                f"the cluster does not let us give topic {topic} {partitions} "
                f"partition{'' if partitions == 1 else 's'}",
                hint=f"the operator of the brokers does this: ftf-broker log topics --channels {partitions}",
            )
        if not ready and outcome.code not in Code.NOT_DONE | Code.UNSURE:
            raise refusal(outcome.code, topic, outcome.words)
        if not deadline.left_s:
            raise LogUnavailable(
                f"topic {topic} is not ready: {outcome.words or f'error {outcome.code}'}",
                hint="check that the brokers run, then try again",
            )
        await deadline.pause()


async def wanted_copies(brokers: Brokers, deadline: Deadline) -> tuple[int, int]:
    """Return how many replicas a topic gets, and how many must be in sync: 3 and 2 unless configured.

    On a cluster of one broker it is 1 and 1, but only if the broker's own settings say that it is alone. When
    the other brokers of a larger cluster are down, a topic must not be created on the only one that is up.
    """
    options = brokers.options
    if options.replication is None and brokers.count == 1:
        settings = await _of_first_broker(brokers, deadline)
        if settings.get("default.replication.factor", "1") == "1":
            return 1, min(options.min_insync or 1, 1)
    replication = 3 if options.replication is None else options.replication
    return replication, options.min_insync or max(1, min(2, replication - 1))


async def all_topics(brokers: Brokers, prefix: str) -> dict[str, TopicShape]:
    """Return the topics of a prefix that this principal may see, by their names without it."""
    deadline = brokers.deadline()
    everything = await brokers.ask(lambda connection, left_s: connection.cluster(None, left_s), deadline)
    found = {name: places for name, places in everything.topics.items() if name.startswith(f"{prefix}.")}
    settings = await brokers.ask(
        lambda connection, left_s: admin.topic_settings_of(connection, found, left_s), deadline
    )
    shapes = {}
    for name, places in sorted(found.items()):
        logical = name.removeprefix(f"{prefix}.")
        policy = settings[name].values.get("cleanup.policy")
        compacted = logical in COMPACTED_TOPICS if policy is None else "compact" in policy
        shapes[logical] = TopicShape(len(places), compacted)
    shapes.pop(COPY_TOPIC, None)
    return shapes


async def is_marked(brokers: Brokers, mark: str) -> bool:
    """Tell whether the topic exists that marks an unfinished copy.

    A principal that may not see it gets no error: what its role reads and writes is another question.
    """
    cluster = await brokers.ask(
        lambda connection, left_s: connection.cluster([mark], left_s), brokers.deadline()
    )
    return mark in cluster.topics or cluster.errors.get(mark) == Code.LEADER_NOT_AVAILABLE


async def set_times(brokers: Brokers, topic: str, *, compacted: bool, copying: bool) -> None:
    """Have a topic keep the times that messages bring, while a log is copied, or set the brokers' own.

    Returns when every broker that is up knows of it.
    """
    deadline = brokers.deadline()
    _, min_insync = await wanted_copies(brokers, deadline)
    settings = topic_settings(compacted=compacted, min_insync=min_insync, copying=copying)
    await _until_done(
        brokers,
        topic,
        deadline,
        lambda connection, left_s: admin.set_topic(connection, topic, settings, left_s),
    )
    for node in brokers.nodes:
        while True:
            try:
                told = await brokers.call(
                    node,
                    Use.ASK,
                    lambda connection, left_s: admin.topic_settings_of(connection, [topic], left_s),
                    deadline.attempt_s,
                )
            except (NotSent, NoAnswer) as error:
                raise brokers.unreachable([error.reason]) from error
            if settings.items() <= told[topic].values.items():
                break
            if not deadline.left_s:
                raise LogUnavailable(
                    f"broker {node} does not take over the settings of topic {topic}",
                    hint="check that the brokers run, then try again",
                )
            await deadline.pause()


async def remove_mark(brokers: Brokers, mark: str) -> None:
    """Delete the topic that marks an unfinished copy, and return when it is gone."""
    deadline = brokers.deadline()
    await _until_done(
        brokers, mark, deadline, lambda connection, left_s: admin.delete_topic(connection, mark, left_s)
    )
    while await is_marked(brokers, mark):
        await deadline.pause()


async def _until_done(
    brokers: Brokers,
    topic: str,
    deadline: Deadline,
    change: Callable[[Connection, float], Awaitable[admin.Outcome]],
) -> None:
    """Make a change to a topic, as often as it takes until the cluster says that it is made."""
    while True:
        outcome = await brokers.ask(change, deadline)
        if outcome.code in (Code.NONE, Code.UNKNOWN_TOPIC_OR_PARTITION):
            return
        if outcome.code not in Code.NOT_DONE | Code.UNSURE or not deadline.left_s:
            raise refusal(outcome.code, topic, outcome.words)
        await deadline.pause()


async def check_policy(brokers: Brokers, topics: Iterable[str]) -> list[str]:
    """Return each difference between a cluster and the policy, for the topics of a coalition."""
    prefix = brokers.options.prefix
    replication, min_insync = await wanted_copies(brokers, brokers.deadline())
    view = await cluster_view(brokers, prefix)
    return differences(view, prefix=prefix, topics=topics, replication=replication, min_insync=min_insync)


async def cluster_view(brokers: Brokers, prefix: str) -> ClusterView:
    """Ask a cluster for everything that the policy speaks of."""
    deadline = brokers.deadline()
    everything = await brokers.ask(lambda connection, left_s: connection.cluster(None, left_s), deadline)
    topics = {name: places for name, places in everything.topics.items() if name.startswith(f"{prefix}.")}
    settings = await brokers.ask(
        lambda connection, left_s: admin.topic_settings_of(connection, topics, left_s), deadline
    )
    broker_settings = {}
    for node in everything.brokers:
        broker_settings[node] = BrokerSettings(settings=await _of_broker(brokers, node, deadline))
    acls_code, acls = await brokers.ask(lambda connection, left_s: admin.acls(connection, left_s), deadline)
    quotas_code, quotas = await brokers.ask(
        lambda connection, left_s: admin.quotas(connection, left_s), deadline
    )
    return ClusterView(
        brokers=broker_settings,
        topics={
            name: TopicSettings(
                partitions=len(places),
                replicas=min((len(place.replicas) for place in places), default=0),
                in_sync=min((len(place.in_sync) for place in places), default=0),
                settings=settings[name].values,
            )
            for name, places in topics.items()
        },
        authorizer=acls_code != Code.SECURITY_DISABLED,
        acls=acls if acls_code == Code.NONE else None,
        quotas=quotas if quotas_code == Code.NONE else None,
    )


async def _create(
    brokers: Brokers, topic: str, partitions: int, deadline: Deadline, *, compacted: bool, copying: bool
) -> admin.Outcome:
    replication, min_insync = await wanted_copies(brokers, deadline)
    settings = topic_settings(compacted=compacted, min_insync=min_insync, copying=copying)
    outcome = await brokers.ask(
        lambda connection, left_s: admin.create_topic(
            connection, topic, partitions, replication, settings, left_s
        ),
        deadline,
    )
    if outcome.code == Code.NONE:
        _log.info(
            "topic created",
            topic=topic,
            partitions=partitions,
            replication=replication,
            min_insync=min_insync,
        )
    return outcome


async def _check_kind(brokers: Brokers, topic: str, compacted: bool, deadline: Deadline) -> None:
    """Raise a UsageError if a topic is compacted and should not be, or the other way round."""
    told = await brokers.ask(
        lambda connection, left_s: admin.topic_settings_of(connection, [topic], left_s), deadline
    )
    policy = told[topic].values.get("cleanup.policy")
    if policy is None:
        # This principal may not see the settings of the topic. The operator of the cluster may, and checks
        # them by `log check`.
        return
    is_compacted = "compact" in policy
    if is_compacted != compacted:
        raise UsageError(
            f"topic {topic} {'is' if is_compacted else 'is not'} compacted, expected the opposite",
            hint="this is settled when a topic is created: use another log, or another prefix",
        )


def _check_copies(brokers: Brokers, topic: str) -> None:
    """Raise LogUnavailable for a topic with fewer replicas than the log's URL demands.

    The loss of a disk would otherwise be the loss of records.
    """
    wanted = brokers.options.replication
    places = brokers.topic(topic) or {}
    fewest = min((len(place.replicas) for place in places.values()), default=0)
    if wanted is not None and fewest < wanted:
        raise LogUnavailable(
            f"topic {topic} is kept on {fewest} brokers, expected {wanted}",
            hint="the operator of the brokers must add replicas (kafka-reassign-partitions): see log check",
        )


async def _of_first_broker(brokers: Brokers, deadline: Deadline) -> dict[str, str]:
    return await _of_broker(brokers, brokers.nodes[0], deadline)


async def _of_broker(brokers: Brokers, node: int, deadline: Deadline) -> dict[str, str]:
    """Ask a broker for its settings; the result is empty if it does not let us see them."""
    try:
        told = await brokers.call(
            node,
            Use.ASK,
            lambda connection, left_s: admin.broker_settings(connection, node, left_s),
            deadline.attempt_s,
        )
    except (NotSent, NoAnswer) as error:
        raise brokers.unreachable([error.reason]) from error
    return dict(told.values)
