"""Publishing: an agency's records go out in batches, each of them signed, locked and appended whole.

This room takes records from a caller and puts batches into the log. It checks beforehand what every reader
will check again (``permission``), and it asks the key access service what became of a batch
(``collections``). Reading records does not belong here, nor does reading files: rows of a file become
records in ``connectors``.
"""

__all__: list[str] = []
