"""The bytes of ``schemas/README.md``: statements, manifests, batches and access messages as values."""

__all__: list[str] = []
