"""The commands that found a coalition and change who takes part: authority, agencies, channels, services."""

__all__: list[str] = []
