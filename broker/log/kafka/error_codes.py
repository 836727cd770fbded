"""Error codes of brokers, and what each means for the caller.

The numbers are those of the Kafka protocol, section "Error Codes"
(https://kafka.apache.org/protocol#protocol_error_codes); the names are Kafka's, a few of them shortened.
"""

from __future__ import annotations

from broker.errors import BrokerError, LogUnavailable, UsageError

__all__ = ["FORBIDDEN_HINT", "Code", "refusal"]


class Code:
    """The codes that this package tells apart, and three sets of them for appends."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    TOPIC_AUTHORIZATION_FAILED = 29
    CLUSTER_AUTHORIZATION_FAILED = 31
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    NOT_CONTROLLER = 41
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE = 45
    DUPLICATE_SEQUENCE = 46
    INVALID_PRODUCER_EPOCH = 47
    SECURITY_DISABLED = 54
    STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    REASSIGNMENT_IN_PROGRESS = 60
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    INVALID_RECORD = 87
    THROTTLING_QUOTA_EXCEEDED = 89

    # The broker did nothing, and may well do it later.
    NOT_DONE = frozenset(
        {
            LEADER_NOT_AVAILABLE,
            BROKER_NOT_AVAILABLE,
            REPLICA_NOT_AVAILABLE,
            NETWORK_EXCEPTION,
            COORDINATOR_LOAD_IN_PROGRESS,
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            NOT_ENOUGH_REPLICAS,
            NOT_CONTROLLER,
            REASSIGNMENT_IN_PROGRESS,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
            THROTTLING_QUOTA_EXCEEDED,
        }
    )

    # The broker no longer knows which sequence number is next, or whether this epoch is the newest.
    LOST_COUNT = frozenset({OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID})

    # The broker may have done it before it failed. A leader that lost its office while it waited for the
    # replicas says NOT_LEADER, and the batch may stand on its successor.
    UNSURE = frozenset(
        {
            UNKNOWN_TOPIC_OR_PARTITION,
            NOT_LEADER,
            REQUEST_TIMED_OUT,
            NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            STORAGE_ERROR,
            UNKNOWN_SERVER_ERROR,
        }
    )


FORBIDDEN_HINT = "the operator of the brokers must give this principal its role: see log acl"
"""The hint for every request that an ACL does not allow."""


def refusal(code: int, topic: str, words: str = "") -> BrokerError:
    """Build the error for a request about a topic that no repetition would help.

    ``words`` are the broker's own, where it gave any.
    """
    said = f": {words}" if words else ""
    match code:
        case Code.TOPIC_AUTHORIZATION_FAILED | Code.CLUSTER_AUTHORIZATION_FAILED:
            return LogUnavailable(
                f"the cluster does not let us do this to topic {topic}", hint=FORBIDDEN_HINT
            )
        case Code.MESSAGE_TOO_LARGE | Code.RECORD_LIST_TOO_LARGE:
            return LogUnavailable(
                f"topic {topic} does not take a whole batch{said}",
                hint="the operator of the brokers must raise its max.message.bytes: see log check",
            )
        case Code.INVALID_RECORD:
            return UsageError(
                f"topic {topic} refuses a message, which needs a key if the topic is compacted{said}"
            )
        case Code.INVALID_REPLICATION_FACTOR:
            return LogUnavailable(
                f"topic {topic} cannot be created: the cluster has too few brokers{said}",
                hint="start more brokers; for one, add ?replication=1&min_insync=1 to the log's URL",
            )
        case Code.POLICY_VIOLATION:
            return LogUnavailable(
                f"a policy of the cluster forbids topic {topic}{said}",
                hint="ask the operator of the brokers",
            )
        case _:
            return LogUnavailable(
                f"the cluster refuses a request about topic {topic}, error {code}{said}",
                hint="look this code up in Kafka's protocol; the broker's own log says more",
            )
