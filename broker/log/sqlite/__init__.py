"""The log in one SQLite file, for one host: nothing to install, nothing to run."""

__all__: list[str] = []
