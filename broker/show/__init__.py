"""Words and tables for people, JSON for programs: used by the command line, and by pages alike."""

__all__: list[str] = []
