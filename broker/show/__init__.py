"""Words, rows and JSON values in which the broker's values are shown to people and to programs.

The command line uses this room now, and a web console will use it later. So nothing here prints, waits,
reads a file or knows a terminal, and nothing here imports ``cli``: each function takes a value of the
broker and returns text, rows of text, or a value that ``json.dumps`` can write.

Words about something that a peer wrote may hold any character. ``printable`` makes them harmless; the
functions that put text on a terminal or on a page do that for everything, so most functions here do not.
"""

__all__: list[str] = []
