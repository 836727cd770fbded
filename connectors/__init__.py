"""Connectors: from the systems that agencies have, to records; ``publish FILE`` uses them too."""

__all__: list[str] = []
