"""Statement files, in which statements go from holder to holder until enough keys have signed them.

    {"coalition": "<genesis>", "says": ["…"],
     "statements": [{"kind": "…", "content": "…", "signatures": [{"key_id": "…", "signature": "…"}]}]}

Contents and signatures are base64, the genesis and the key ids are hexadecimal. The statements stand in the
order in which they are appended. ``says`` is for people who open the file in an editor, and it is never
read: somebody could have written harmless words beside a harmful content. A holder who is about to sign is
shown what the content itself says.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.errors import BrokerError, FormatError, UsageError
from broker.show.statement_text import statement_text
from broker.wire.encoding import STATEMENT_KINDS, Statement, decode_content, encode, kind_of
from broker.wire.manifest import KeySignature, Signed

__all__ = ["StatementFile", "described", "issuer_of", "read_statement", "unsigned"]

# Three statements of the greatest size that the directory takes (1,000,000 bytes) fit in, as base64.
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_STATEMENTS = 64


def unsigned(statement: Statement) -> Signed:
    """Return a statement in the form in which it is signed, still without a signature."""
    return Signed(kind=kind_of(statement), content=encode(statement), signatures=())


def read_statement(signed: Signed) -> Statement:
    """Return what a signed statement of the directory says.

    Raises FormatError when the kind is not one of the directory or the content is malformed.
    """
    if signed.kind not in STATEMENT_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is not a kind of directory statement")
    statement: Statement = decode_content(signed)
    return statement


def issuer_of(signed: Signed) -> str:
    """Return the name of the participant that issues a statement."""
    return read_statement(signed).header.issuer


def described(signed: Signed) -> str:
    """Return a statement as a sentence: its issuer, and what it says."""
    statement = read_statement(signed)
    return f"{statement.header.issuer} {statement_text(statement)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFile:
    """Statements of one coalition, in the order in which they are appended."""

    genesis: bytes
    statements: tuple[Signed, ...]

    @classmethod
    def load(cls, path: Path) -> StatementFile:
        """Read a statement file. Raises UsageError, which says what is wrong with it."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UsageError(f"cannot read '{path}': {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"'{path}' is larger than {MAX_FILE_BYTES} bytes, the most for a statement file")
        try:
            fields = json.loads(data)
            genesis = bytes.fromhex(fields["coalition"])
            statements = tuple(_from_json(statement) for statement in fields["statements"])
            # The file comes from somebody else: everything in it must be readable before any of it is used.
            for signed in statements:
                read_statement(signed)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BrokerError) as error:
            raise UsageError(f"'{path}' is not a statement file: {error}") from None
        if len(genesis) != 32:
            raise UsageError(f"'{path}' names a coalition of {2 * len(genesis)} hex digits, expected 64")
        if not 1 <= len(statements) <= MAX_STATEMENTS:
            raise UsageError(f"'{path}' holds {len(statements)} statements, expected 1 to {MAX_STATEMENTS}")
        return cls(genesis=genesis, statements=statements)

    def save(self, path: Path) -> None:
        """Write the file. It holds nothing secret, so it gets the usual permissions."""
        fields = {
            "coalition": self.genesis.hex(),
            "says": [described(signed) for signed in self.statements],
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
            {
                "key_id": signature.key_id.hex(),
                "signature": base64.b64encode(signature.signature).decode(),
            }
            for signature in signed.signatures
        ],
    }


def _from_json(fields: Mapping[str, object]) -> Signed:
    signatures = fields["signatures"]
    if not isinstance(signatures, list):
        raise ValueError("'signatures' is not a list")
    return Signed(
        kind=str(fields["kind"]),
        # Without validate, b64decode() drops foreign characters. A file that was damaged on its way would
        # give other bytes and a puzzling error about signatures.
        content=base64.b64decode(str(fields["content"]), validate=True),
        signatures=tuple(
            KeySignature(
                key_id=bytes.fromhex(signature["key_id"]),
                signature=base64.b64decode(signature["signature"], validate=True),
            )
            for signature in signatures
        ),
    )
