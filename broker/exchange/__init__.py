"""Publishing to and subscribing from a log."""

__all__: list[str] = []
