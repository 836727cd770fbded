"""The log that agencies share: a Kafka cluster, where each channel is a partition of each topic.

Only this folder imports aiokafka (wire, record_batch and admin; no other module), and nothing above it knows
that a log is Kafka. The one exception is ``ftf-broker log``, for the operator of a cluster: it uses ``acl``
and ``kafka_log``. The docstring of ``kafka_log`` lists the parts.
"""

__all__: list[str] = []
