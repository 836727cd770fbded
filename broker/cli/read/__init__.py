"""The commands that read records: subscribe and consult, and the grounds that both must state."""

__all__: list[str] = []
