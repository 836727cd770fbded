"""The folder of a participant's key files, such as ``signing-1.pem`` and ``receiving-2.pem``.

Keys are numbered in the order in which they were made. They are never overwritten and never removed, since
what was sealed to an old receiving key opens with no other. The folder has mode 0700, the files 0600.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.crypto.keyfile import load_receiving_key, load_signing_key, write_key
from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.errors import KeyFileError

__all__ = ["KeyFolder"]

Kind = Literal["authority", "signing", "receiving"]

# No leading zeros: signing-1.pem and signing-01.pem would be two keys with one number. Files with other names
# are ignored, so that the owner may keep notes in the folder.
_NAME = re.compile(r"(authority|signing|receiving)-([1-9][0-9]{0,5})\.pem")


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The key files of one participant."""

    folder: Path
    passphrase: bytes

    def __repr__(self) -> str:  # without the passphrase, which a traceback or a log would show
        return f"KeyFolder({str(self.folder)!r})"

    @classmethod
    def create(cls, folder: Path, passphrase: bytes) -> KeyFolder:
        """Make the folder if it is missing, and return it as a key store; raises KeyFileError."""
        try:
            # A folder that exists keeps its mode. The keys do not depend on it: each file has mode 0600 and
            # is encrypted.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyFileError(f"cannot make the key store '{folder}': {error.strerror}") from None
        return cls(folder, passphrase)

    def new_signing(self, kind: Literal["authority", "signing"] = "signing") -> SigningKey:
        """Make a signing key, store it as the newest of its kind, and return it."""
        key = SigningKey.generate()
        write_key(self._next(kind), key, self.passphrase)
        return key

    def new_receiving(self) -> ReceivingKey:
        """Make a receiving key, store it as the newest, and return it."""
        key = ReceivingKey.generate()
        write_key(self._next("receiving"), key, self.passphrase)
        return key

    def signing(self, kind: Literal["authority", "signing"] = "signing") -> tuple[SigningKey, ...]:
        """Load the signing keys of this kind, the newest first; raises KeyFileError."""
        return tuple(load_signing_key(path, self.passphrase) for path in self._files(kind))

    def receiving(self) -> tuple[ReceivingKey, ...]:
        """Load the receiving keys, the newest first; raises KeyFileError."""
        return tuple(load_receiving_key(path, self.passphrase) for path in self._files("receiving"))

    def _next(self, kind: Kind) -> Path:
        # One more than the largest number, not the count: an owner may have moved an older file away. If two
        # processes take the same number, write_key refuses the second, since it never writes over a file.
        numbers = [_number(path) for path in self._files(kind)]
        return self.folder / f"{kind}-{max(numbers, default=0) + 1}.pem"

    def _files(self, kind: Kind) -> list[Path]:
        try:
            names = [
                path
                for path in self.folder.iterdir()
                if (found := _NAME.fullmatch(path.name)) and found[1] == kind
            ]
        except OSError as error:
            raise KeyFileError(
                f"cannot read the key store '{self.folder}': {error.strerror}",
                hint="check the field 'keys' of the profile",
            ) from None
        return sorted(names, key=_number, reverse=True)


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[2]) if found else 0
