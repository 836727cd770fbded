"""Avro, stricter than its specification: a schema becomes two functions, and a value has one encoding.

``shape`` parses a schema, ``writer`` and ``reader`` write the two functions for it with ``source``, and
``codec`` puts them together. ``projection`` reads a value that was written under another version,
``comparison`` finds what keeps two versions from understanding each other, and ``compatibility`` checks whole
folders. ``schema_file`` reads schemas from files, and ``schema`` knows the record types among them.
"""

__all__: list[str] = []
