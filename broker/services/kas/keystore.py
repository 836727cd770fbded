"""The private store of a key access service: one directory, in no back-up.

    intake/<day>.pem             the intake key of a day, PKCS#8 under the passphrase
    storage/<day>                the storage key of a day, for the values of ftf.keys
    access/<month>-<channel no>  the access key of a month and channel, for the access log

A file is written whole, made durable, and only then given its name, which the first of several
processes gets. Symmetric keys are sealed to the service's own receiving key: id of that key (32),
then HPKE with ``storage_info``. What is destroyed here is gone; so is whatever only it could open.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.crypto.keyfile import load_receiving_key, read_private, write_key, write_private
from broker.crypto.seal import ReceivingKey, open_sealed, seal, storage_info
from broker.directory import Directory, drafts
from broker.errors import KeyFileError, OpenError
from broker.wire.statements import ServiceKeyAnnounced

__all__ = ["INTAKE_DAYS_AHEAD", "KeyStore", "StorageKey"]

INTAKE_DAYS_AHEAD = 14
"""Days for which intake keys are announced, today included."""

_MICROSECONDS_A_DAY = 86_400_000_000
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class StorageKey:
    """The key of a day for what is held in ftf.keys; values name it by its id."""

    day: int
    id: bytes
    key: bytes


class KeyStore:
    """The keys that a key access service keeps for itself.

    ``receiving`` are the service's receiving keys, the newest first: new files are sealed to it.
    """

    def __init__(
        self, path: Path, genesis: bytes, receiving: Mapping[bytes, ReceivingKey], passphrase: bytes
    ) -> None:
        if not receiving:
            raise KeyFileError("the key access service has no receiving key")
        self._path = path
        self._genesis = genesis
        self._receiving = dict(receiving)
        self._passphrase = passphrase
        self._intake: dict[int, ReceivingKey] = {}
        self._storage: dict[int, StorageKey] = {}
        self._access: dict[tuple[str, int], bytes] = {}
        for folder in (path, path / "intake", path / "storage", path / "access"):
            _make_private(folder)

    # intake keys

    def add_intake_key(self, day: int, key: ReceivingKey) -> ReceivingKey:
        """Keep the intake key of a day; the key that is kept, which is the first."""
        path = self._path / "intake" / f"{day}.pem"
        if not path.exists():
            temporary = _temporary(path)
            write_key(temporary, key, self._passphrase)
            _give_name(temporary, path)
        found = self.intake_key(day)
        if found is None:
            raise KeyFileError(f"'{path}' is gone")
        return found

    def intake_key(self, day: int) -> ReceivingKey | None:
        """The intake key of a day, while it is kept."""
        found = self._intake.get(day)
        path = self._path / "intake" / f"{day}.pem"
        if found is None and path.exists():
            found = self._intake[day] = load_receiving_key(path, self._passphrase)
        return found

    def announce(
        self, directory: Directory, service: str, now: int, *, days: int = INTAKE_DAYS_AHEAD
    ) -> tuple[ServiceKeyAnnounced, ...]:
        """Keys for the next days, and the statements to sign and append; days announced are skipped.

        A key is durable here before its statement is given: asked again, the same key is announced.
        """
        today = now // _MICROSECONDS_A_DAY
        return tuple(
            drafts.announce_intake_key(
                directory,
                service=service,
                public_key=self._intake_or_new(day).public,
                day=day,
                issued_at=now,
            )
            for day in range(today, today + days)
            if (service, day) not in directory.intake_days
        )

    def _intake_or_new(self, day: int) -> ReceivingKey:
        return self.intake_key(day) or self.add_intake_key(day, ReceivingKey.generate())

    # symmetric keys

    def storage_key(self, day: int) -> StorageKey:
        """The storage key of a day, drawn when it is first asked for."""
        found = self._storage.get(day)
        if found is None:
            secret = self._secret(Path("storage") / str(day), 2 * _KEY_BYTES)
            found = self._storage[day] = StorageKey(day, secret[:_KEY_BYTES], secret[_KEY_BYTES:])
        return found

    def storage_key_by_id(self, key_id: bytes) -> StorageKey | None:
        """The storage key that a value names, while it is kept."""
        found = self._by_id(key_id)
        if found is None:
            for path in sorted((self._path / "storage").iterdir()):
                if path.name.isdecimal():  # another process may have drawn it meanwhile
                    self.storage_key(int(path.name))
            found = self._by_id(key_id)
        return found

    def _by_id(self, key_id: bytes) -> StorageKey | None:
        return next((key for key in self._storage.values() if key.id == key_id), None)

    def access_key(self, month: str, channel: int) -> bytes:
        """The access key of a month such as ``2026-05`` and a channel, drawn when first asked for."""
        found = self._access.get((month, channel))
        if found is None:
            found = self._secret(Path("access") / f"{month}-{channel}", _KEY_BYTES)
            self._access[month, channel] = found
        return found

    def kept_access_key(self, month: str, channel: int) -> bytes | None:
        """The access key of a month and channel; None where it was never drawn, or is destroyed."""
        if (month, channel) in self._access or (self._path / "access" / f"{month}-{channel}").exists():
            return self.access_key(month, channel)
        return None

    def _secret(self, name: Path, size: int) -> bytes:
        path, info = self._path / name, storage_info(self._genesis, str(name))
        if not path.exists():
            newest = next(iter(self._receiving.values()))
            temporary = _temporary(path)
            write_private(temporary, newest.key_id + seal(newest.public, secrets.token_bytes(size), info))
            _give_name(temporary, path)
        data = read_private(path)
        key = self._receiving.get(data[:_KEY_BYTES])
        if key is None:
            raise KeyFileError(f"'{path}' is sealed to a receiving key that is not at hand")
        try:
            secret = open_sealed(key, data[_KEY_BYTES:], info)
        except OpenError:
            raise KeyFileError(f"'{path}' was altered") from None
        if len(secret) != size:
            raise KeyFileError(f"'{path}' holds {len(secret)} bytes, expected {size}")
        return secret

    # destroying

    def destroy_intake_key(self, day: int) -> None:
        """Destroy an intake key: nothing sealed to it can be taken over any more."""
        self._intake.pop(day, None)
        _destroy(self._path / "intake" / f"{day}.pem")

    def destroy_storage_key(self, day: int) -> None:
        """Destroy a storage key: whatever copy there is of a value under it is noise from now on."""
        self._storage.pop(day, None)
        _destroy(self._path / "storage" / str(day))

    def destroy_access_key(self, month: str, channel: int) -> None:
        """Destroy an access key: the bodies of the channel's access entries of that month are gone."""
        self._access.pop((month, channel), None)
        _destroy(self._path / "access" / f"{month}-{channel}")


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise KeyFileError(f"others can enter '{folder}'", hint=f"run: chmod 700 {folder}")
    except OSError as error:
        raise KeyFileError(f"cannot use '{folder}' as a key store: {error.strerror}") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _give_name(temporary: Path, path: Path) -> None:
    """Give a durable file its name, unless another process was first; both then read what has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise KeyFileError(f"cannot write '{path}': {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _destroy(path: Path) -> None:
    # Overwriting gains nothing on journalling file systems and flash; what must never come back is
    # sealed to a key that lies elsewhere, and the directory is in no back-up.
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise KeyFileError(f"cannot destroy '{path}': {error.strerror}") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
