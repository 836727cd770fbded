"""Statements that several keys sign, carried from holder to holder in a file.

    {"coalition": "<genesis>", "statements": [{"kind", "content", "signatures": [{"key_id", "signature"}]}]}

Bytes are base64, ids hexadecimal. The file holds the statements in the order in which they are
appended. ``says`` beside them is for people who look into the file: whoever signs is shown what the
content says, never what somebody wrote beside it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.errors import BrokerError, FormatError, UsageError
from broker.show.statement_text import says
from broker.wire.encoding import STATEMENT_KINDS, Statement, decode_content, encode, kind_of
from broker.wire.manifest import KeySignature, Signed

__all__ = ["Bundle", "issuer_of", "read_statement", "unsigned"]

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_STATEMENTS = 64


def unsigned(statement: Statement) -> Signed:
    """A statement that nobody has signed yet."""
    return Signed(kind=kind_of(statement), content=encode(statement), signatures=())


def read_statement(signed: Signed) -> Statement:
    """What a signed statement of the directory says; FormatError if it is none."""
    if signed.kind not in STATEMENT_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is no kind of directory statement")
    statement: Statement = decode_content(signed)
    return statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Statements of one coalition, in the order in which they are appended."""

    genesis: bytes
    statements: tuple[Signed, ...]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read a statement file; UsageError says what is wrong with it."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"'{path}' is larger than a statement file can be")
        try:
            fields = json.loads(data)
            genesis = bytes.fromhex(fields["coalition"])
            statements = tuple(_from_json(one) for one in fields["statements"])
            for signed in statements:
                read_statement(signed)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BrokerError) as error:
            raise UsageError(f"'{path}' is no statement file: {error}") from None
        if len(genesis) != 32 or not 1 <= len(statements) <= MAX_STATEMENTS:
            raise UsageError(f"'{path}' is no statement file")
        return cls(genesis=genesis, statements=statements)

    def save(self, path: Path) -> None:
        """Write the file; it holds nothing secret."""
        fields = {
            "coalition": self.genesis.hex(),
            "says": [f"{issuer_of(signed)} {says(read_statement(signed))}" for signed in self.statements],
            "statements": [_to_json(signed) for signed in self.statements],
        }
        try:
            path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write '{path}': {error.strerror}") from None


def _to_json(signed: Signed) -> dict[str, object]:
    return {
        "kind": signed.kind,
        "content": base64.b64encode(signed.content).decode(),
        "signatures": [
            {"key_id": one.key_id.hex(), "signature": base64.b64encode(one.signature).decode()}
            for one in signed.signatures
        ],
    }


def _from_json(fields: Mapping[str, object]) -> Signed:
    signatures = fields["signatures"]
    if not isinstance(signatures, list):
        raise ValueError("'signatures' is no list")
    return Signed(
        kind=str(fields["kind"]),
        content=base64.b64decode(str(fields["content"]), validate=True),
        signatures=tuple(
            KeySignature(
                key_id=bytes.fromhex(one["key_id"]),
                signature=base64.b64decode(one["signature"], validate=True),
            )
            for one in signatures
        ),
    )


def issuer_of(signed: Signed) -> str:
    return read_statement(signed).header.issuer
