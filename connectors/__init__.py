"""Connectors: the way from the files of an agency's own systems to records, and back out of the broker.

What may be in this room: readers of what an agency holds (``lines``, ``cells``, ``mapping``), and writers of
what it gets back (``rejects``). A connector knows nothing of keys, of the log or of the command line. Of the
broker it imports the errors, the files, the schemas (``broker.avro``) and the records; nothing in ``broker``
except the command line imports a connector. The room is part of the wheel, beside ``broker``.

Two rules hold for every reader. A row that cannot be read is a problem of that row, and the rows around it go
through. A column that nobody maps gets no further than the reader, since it may hold the names of people.
"""

__all__: list[str] = []
