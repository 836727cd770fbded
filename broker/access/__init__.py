"""Accountable reading: the decision, the key access service, its clients and the access entries."""

__all__: list[str] = []
