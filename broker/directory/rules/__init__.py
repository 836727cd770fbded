"""The rules of the directory: what a statement of each kind must fulfil, and what it changes."""

__all__: list[str] = []
