"""Sign, seal, lock: pure functions over bytes."""

__all__: list[str] = []
