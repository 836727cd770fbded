"""Avro, stricter than its specification: a schema becomes two functions, and a value has one encoding."""

__all__: list[str] = []
