"""Receipts of the key access service, as a subscriber and a consultation keep them.

A receipt is signed by the service and names the access entry that must stand in the log. An auditor who is
given the file finds every entry that was cut from the log later (``broker.audit.receipt_check``).

The file holds one JSON object a line: the signed request and the signed receipt, each in base64. It holds
no release share and no detail of a person or a case, so it may be kept after an erasure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from broker.errors import FormatError
from broker.files import LineFile
from broker.wire.encoding import decode, encode
from broker.wire.manifest import Signed

__all__ = ["ReceiptFile", "read_receipts"]


class ReceiptFile:
    """A file of receipts of mode 0600, to which receipts are only ever added."""

    def __init__(self, lines: LineFile) -> None:
        self._lines = lines

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or create it; raises UsageError when it cannot be written."""
        return cls(LineFile.open(path))

    def add(self, request: Signed, receipt: Signed) -> None:
        """Add a receipt and the request that it answers; durable after ``sync``."""
        fields = {"request": request, "receipt": receipt}
        line = {name: base64.b64encode(encode(signed)).decode() for name, signed in fields.items()}
        self._lines.add(json.dumps(line).encode() + b"\n")

    def sync(self) -> None:
        """Make durable every receipt that was added."""
        self._lines.sync()

    def close(self) -> None:
        """Close the file, durably."""
        self._lines.close()


def read_receipts(path: Path) -> Iterator[tuple[Signed, Signed]]:
    """Yield each pair of request and receipt; a line that is damaged, or was cut short, is passed over."""
    with open(path, "rb") as file:
        for line in file:
            try:
                fields = json.loads(line)
                request = base64.b64decode(fields["request"], validate=True)
                receipt = base64.b64decode(fields["receipt"], validate=True)
                yield decode(Signed, request), decode(Signed, receipt)
            # RecursionError: a line of nested brackets exhausts the stack of the JSON parser.
            except (ValueError, KeyError, TypeError, RecursionError, FormatError):
                continue
