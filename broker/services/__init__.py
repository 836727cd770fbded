"""The services of a coalition: programs that run for everybody and are trusted for one thing each."""

__all__: list[str] = []
