"""Key files: private keys as PKCS#8 PEM, encrypted under a passphrase, in files that only their owner reads.

The file of a signing key holds one block (Ed25519). The file of a receiving or intake key holds two: first
ML-KEM-768, then X25519.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.errors import KeyFileError, UsageError
from broker.files import write_new

__all__ = ["load_receiving_key", "load_signing_key", "read_private", "write_key", "write_private"]

MAX_KEY_FILE_BYTES = 64 * 1024
"""The largest key file that is read, in bytes."""

_BLOCK = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----\r?\n[A-Za-z0-9+/=\r\n]+-----END ENCRYPTED PRIVATE KEY-----\r?\n?"
)


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, durably. Raises KeyFileError if it exists already."""
    try:
        write_new(path, data)
    except FileExistsError:
        raise KeyFileError(
            f"'{path}' exists already", hint="keys are never overwritten; move the old file away first"
        ) from None
    except UsageError as error:
        raise KeyFileError(error.message, hint=error.hint) from None


def read_private(path: Path) -> bytes:
    """Read a file that nobody but its owner can read.

    Raises KeyFileError if others can read or write it, or if it is not a regular file.
    """
    try:
        # O_NONBLOCK: without it, opening a named pipe in the file's place would wait for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            # The opened file is checked, not its path: somebody could exchange the file behind a path between
            # the check and the reading. Links are followed, since secret stores use them.
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFileError(f"'{path}' is no regular file")
            if mode & 0o077:
                raise KeyFileError(
                    f"others can read '{path}' (mode {stat.S_IMODE(mode):04o})", hint=f"run: chmod 600 {path}"
                )
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read '{path}': {error.strerror}") from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise KeyFileError(f"'{path}' is larger than a key file can be")
    return data


def write_key(path: Path, key: SigningKey | ReceivingKey, passphrase: bytes) -> None:
    """Store a key under a passphrase in a new file of mode 0600. Raises KeyFileError if the file exists."""
    if not passphrase:
        raise KeyFileError("the passphrase is empty", hint="keys are stored under a passphrase only")
    privates = (key.private,) if isinstance(key, SigningKey) else (key.mlkem, key.x25519)
    encryption = BestAvailableEncryption(passphrase)
    blocks = [private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption) for private in privates]
    write_private(path, b"".join(blocks))


def _load(path: Path, passphrase: bytes, count: int) -> list[object]:
    data = read_private(path)
    blocks = _BLOCK.findall(data)
    # The blocks must be the whole file: anything else in it, an unencrypted key for one, is a fault.
    if len(blocks) != count or b"".join(blocks) != data:
        raise KeyFileError(f"'{path}' does not hold {count} encrypted PKCS#8 block{'s' * (count > 1)}")
    try:
        return [load_pem_private_key(block, passphrase) for block in blocks]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"'{path}' does not open with this passphrase", hint="check the passphrase, or the file"
        ) from None


def load_signing_key(path: Path, passphrase: bytes) -> SigningKey:
    """Load the signing key in a file. Raises KeyFileError, which says what is wrong with the file."""
    (private,) = _load(path, passphrase, 1)
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"'{path}' holds no Ed25519 key")
    return SigningKey.of(private)


def load_receiving_key(path: Path, passphrase: bytes) -> ReceivingKey:
    """Load the receiving or intake key in a file. Raises KeyFileError, which says what is wrong with it."""
    mlkem, x25519 = _load(path, passphrase, 2)
    if not (isinstance(mlkem, MLKEM768PrivateKey) and isinstance(x25519, X25519PrivateKey)):
        raise KeyFileError(f"'{path}' holds no ML-KEM-768 key followed by an X25519 key")
    return ReceivingKey.of(mlkem, x25519)
