"""Verification of a partition: from its messages to verified batches and violations, without waiting."""

__all__: list[str] = []
