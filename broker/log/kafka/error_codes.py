"""What the error codes of brokers mean for whoever called (Kafka protocol, "Error Codes")."""

from __future__ import annotations

from broker.errors import BrokerError, LogUnavailable, UsageError

__all__ = ["Code", "refusal"]


class Code:
    """The codes that this package tells apart."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    MESSAGE_TOO_LARGE = 10
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
    THROTTLING_QUOTA_EXCEEDED = 89
    INVALID_RECORD = 87

    # The broker did not do it, and may well do it later.
    NOT_DONE = frozenset({5, 8, 9, 13, 14, 15, 16, NOT_ENOUGH_REPLICAS, NOT_CONTROLLER, 60, 74, 75, 89})

    # The broker may have done it before it found out, or another may have.
    UNSURE = frozenset(
        {
            UNKNOWN_TOPIC_OR_PARTITION,
            NOT_LEADER,
            REQUEST_TIMED_OUT,
            NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            STORAGE_ERROR,
            -1,
        }
    )


_FORBIDDEN_HINT = "whoever operates the brokers must give this principal its role: see log acl"


def refusal(code: int, topic: str, words: str = "") -> BrokerError:
    """Give the error for a request about a topic that will not be done, however often it is tried."""
    said = f": {words}" if words else ""
    match code:
        case Code.TOPIC_AUTHORIZATION_FAILED | Code.CLUSTER_AUTHORIZATION_FAILED:
            return LogUnavailable(
                f"the cluster does not let us do this to topic {topic}", hint=_FORBIDDEN_HINT
            )
        case Code.MESSAGE_TOO_LARGE | Code.RECORD_LIST_TOO_LARGE:
            return LogUnavailable(
                f"topic {topic} does not take a whole batch{said}",
                hint="whoever operates the brokers must raise its max.message.bytes: see log check",
            )
        case Code.INVALID_RECORD:
            return UsageError(f"topic {topic} refuses a message, for want of a key if it is compacted{said}")
        case Code.INVALID_REPLICATION_FACTOR:
            return LogUnavailable(
                f"topic {topic} cannot be created: the cluster has too few brokers{said}",
                hint="start more brokers; for one, add ?replication=1&min_insync=1 to the log's URL",
            )
        case Code.POLICY_VIOLATION:
            return LogUnavailable(
                f"a policy of the cluster forbids topic {topic}{said}",
                hint="ask whoever operates the brokers",
            )
        case _:
            return LogUnavailable(
                f"the cluster refuses a request about topic {topic}, error {code}{said}",
                hint="look this code up in Kafka's protocol; the broker's own log says more",
            )
