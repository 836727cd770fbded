"""The log that agencies share: a Kafka cluster, where a channel is a partition."""

__all__: list[str] = []
