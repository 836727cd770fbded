"""From the messages of a partition to verified batches and named violations: pure."""

__all__: list[str] = []
