"""What every participant does: hold keys, follow the directory, read partitions, append and settle."""

__all__: list[str] = []
