"""Publishing: an agency's records go out in batches, each signed, locked and appended whole."""

__all__: list[str] = []
