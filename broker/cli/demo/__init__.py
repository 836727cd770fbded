"""The demo: a coalition of fictional states, played end to end and left behind to be played with."""

__all__: list[str] = []
