"""The log in one SQLite file, for one host: no server, and nothing to install.

Only this folder opens the file. ``sqlite_log`` is the one module that the rest of ``log`` may import; behind
it stand, from asyncio down to SQL: ``watch`` and ``calls``, ``file``, ``rows``, and ``failures`` for what
SQLite reports.
"""

__all__: list[str] = []
