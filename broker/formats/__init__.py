"""Avro schemas, statements, manifests and bodies: bytes to values and back, pure."""

__all__: list[str] = []
