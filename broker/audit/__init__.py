"""Audit: proving that nothing in the logs was altered, and telling who read what.

``replay`` verifies both logs without reading a single record; ``accesses`` lists who read what, when and
why. The checks in this room are plain functions of what was read; only the readers around them wait for a
log or for the key access service. Nothing here publishes, releases or holds a key that opens a record.
"""

__all__: list[str] = []
