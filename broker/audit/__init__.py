"""Proving that nothing in the logs was altered, dropped, inserted or reordered, without reading a record."""

__all__: list[str] = []
