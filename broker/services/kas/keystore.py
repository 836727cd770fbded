"""The key store of a key access service: one folder of secret keys, which is in no back-up.

    intake/<day>-<n>.pem         an intake key of a day, PKCS#8 under the passphrase: n is 0 for the first,
                                 and counts on when the last one was revoked and the day needs another
    intake/<day>.destroyed       an empty file: the intake keys of that day were destroyed
    storage/<day>                the storage key of a day, for the values of ftf.keys
    access/<month>-<channel no>  the access key of a month and channel, for the access log

Several processes may share the store. A file is written whole under another name, made durable, and only
then linked to its own name: the first process wins, and the others read its file. Symmetric keys are sealed
to the service's own receiving key: the id of that key (32), then HPKE with ``storage_info``. A key that is
destroyed here is gone, and so is everything that only this key could open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from broker.crypto.keyfile import load_receiving_key, read_private, write_key, write_private
from broker.crypto.seal import ReceivingKey, open_sealed, seal, storage_info
from broker.directory import Directory, drafts
from broker.errors import KeyFileError, OpenError, UsageError
from broker.files import make_folder, sync_folder
from broker.wire.statements import ServiceKeyAnnounced

__all__ = ["KeyStore", "StorageKey"]

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class StorageKey:
    """The key of a day for the values of ``ftf.keys``, which name it by its id."""

    day: int
    id: bytes
    key: bytes


class KeyStore:
    """The keys that a key access service keeps for itself.

    ``receiving`` are the service's receiving keys by id, the newest first: new files are sealed to it.
    Raises KeyFileError when the folder cannot be used, or when others can enter it.
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
        self._intake: dict[Path, ReceivingKey] = {}
        self._storage: dict[int, StorageKey] = {}
        self._access: dict[tuple[str, int], bytes] = {}
        for folder in (path, path / "intake", path / "storage", path / "access"):
            _make_private(folder)

    # intake keys

    def add_intake_key(self, day: int, key: ReceivingKey, *, number: int = 0) -> ReceivingKey:
        """Keep an intake key for a day under this number; a key that has the number already stays.

        Returns the key of that number.
        """
        if self.is_intake_destroyed(day):
            raise KeyFileError(f"the intake key of day {day} was destroyed, and no other takes its place")
        path = self._intake_path(day, number)
        if not path.exists():
            temporary = _temporary(path)
            write_key(temporary, key, self._passphrase)
            _give_name(temporary, path)
        found = self._load_intake(path)
        if found is None:
            raise KeyFileError(f"'{path}' is gone")
        return found

    def intake_key(self, day: int, key_id: bytes) -> ReceivingKey | None:
        """Return the intake key of a day with this id; None where it is missing, or was destroyed."""
        return next((key for key in self._intake_keys(day) if key.key_id == key_id), None)

    def _intake_keys(self, day: int) -> Iterator[ReceivingKey]:
        """Yield the intake keys of a day, by their numbers."""
        for number in count():
            key = self._load_intake(self._intake_path(day, number))
            if key is None:
                return
            yield key

    def _load_intake(self, path: Path) -> ReceivingKey | None:
        # The file is looked at each time: another process that shares the store may have destroyed the key.
        if not path.exists():
            self._intake.pop(path, None)
            return None
        found = self._intake.get(path)
        if found is None:
            found = self._intake[path] = load_receiving_key(path, self._passphrase)
        return found

    def _intake_path(self, day: int, number: int) -> Path:
        return self._path / "intake" / f"{day}-{number}.pem"

    def intake_days(self) -> list[int]:
        """Return the days of which an intake key is kept, the earliest first."""
        kept = (path.stem.partition("-") for path in (self._path / "intake").glob("*-*.pem"))
        return sorted({int(day) for day, _, number in kept if day.isdecimal() and number.isdecimal()})

    def is_intake_destroyed(self, day: int) -> bool:
        """Tell whether the intake keys of a day were destroyed, and are not merely missing."""
        return (self._path / "intake" / f"{day}.destroyed").exists()

    def announcement(
        self, directory: Directory, service: str, day: int, issued_at: int
    ) -> ServiceKeyAnnounced:
        """Return the statement that announces the intake key of a day; the key is made if there is none.

        It is durable here before its statement is returned, since batches are sealed to it as soon as it is
        announced. Where the statement was not appended, the next call announces the same key. Raises
        KeyFileError where the keys of the day were destroyed, or the folder cannot be used.
        """
        key = self._unregistered(directory, day)
        return drafts.announce_intake_key(
            directory, service=service, public_key=key.public, day=day, issued_at=issued_at
        )

    def _unregistered(self, directory: Directory, day: int) -> ReceivingKey:
        """Return the first intake key of a day that can still be announced; it is made if there is none."""
        # No key is registered twice. So a key that fell, and one that another party registered as its own,
        # never counts again. It stays in the store: batches that were sealed to it must still open.
        number = 0
        for key in self._intake_keys(day):
            if key.key_id not in directory.owners:
                return key
            number += 1
        return self.add_intake_key(day, ReceivingKey.generate(), number=number)

    # symmetric keys

    def storage_key(self, day: int) -> StorageKey:
        """Return the storage key of a day; the first call makes it."""
        found = self._storage.get(day)
        if found is None:
            secret = self._secret(Path("storage") / str(day), 2 * _KEY_BYTES)
            found = self._storage[day] = StorageKey(day, secret[:_KEY_BYTES], secret[_KEY_BYTES:])
        return found

    def storage_key_by_id(self, key_id: bytes) -> StorageKey | None:
        """Return the storage key that a value names; None when it was destroyed."""
        found = self._by_id(key_id)
        if found is None:
            for path in sorted((self._path / "storage").iterdir()):
                if path.name.isdecimal():  # another process may have made it meanwhile
                    self.storage_key(int(path.name))
            found = self._by_id(key_id)
        return found

    def _by_id(self, key_id: bytes) -> StorageKey | None:
        return next((key for key in self._storage.values() if key.id == key_id), None)

    def access_key(self, month: str, channel: int) -> bytes:
        """Return the access key of a month, such as ``2026-05``, and a channel; the first call makes it."""
        found = self._access.get((month, channel))
        if found is None:
            found = self._secret(Path("access") / f"{month}-{channel}", _KEY_BYTES)
            self._access[month, channel] = found
        return found

    def kept_access_key(self, month: str, channel: int) -> bytes | None:
        """Return the access key of a month and channel; None when it was never made, or was destroyed."""
        if (month, channel) in self._access or (self._path / "access" / f"{month}-{channel}").exists():
            return self.access_key(month, channel)
        return None

    def _secret(self, name: Path, size: int) -> bytes:
        path = self._path / name
        # The name is in the info: a file that somebody renames to another day or channel does not open.
        info = storage_info(self._genesis, str(name))
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
        """Destroy the intake keys of a day: no batch sealed to them can be taken over any more."""
        # The mark comes first. Without it, a key that is gone would look like one that the operator lost.
        mark = self._path / "intake" / f"{day}.destroyed"
        if not mark.exists():
            temporary = _temporary(mark)
            write_private(temporary, b"")
            _give_name(temporary, mark)
        for path in (self._path / "intake").glob(f"{day}-*.pem"):
            self._intake.pop(path, None)
            _destroy(path)

    def destroy_storage_key(self, day: int) -> None:
        """Destroy a storage key: every copy of a value under it is useless from now on."""
        self._storage.pop(day, None)
        _destroy(self._path / "storage" / str(day))

    def destroy_access_key(self, month: str, channel: int) -> None:
        """Destroy an access key: nobody can open the bodies of the channel's access entries of that month."""
        self._access.pop((month, channel), None)
        _destroy(self._path / "access" / f"{month}-{channel}")


def _make_private(folder: Path) -> None:
    try:
        make_folder(folder)
        mode = folder.stat().st_mode
    except UsageError as error:
        raise KeyFileError(
            f"cannot use '{folder}' as a key store: {error.message}", hint=error.hint
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot use '{folder}' as a key store: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(f"others can enter '{folder}'", hint=f"run: chmod 700 {folder}")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _give_name(temporary: Path, path: Path) -> None:
    """Give a durable file its own name, unless another process was first: then its file stays."""
    try:
        try:
            # A link and not a rename, which would replace the other process's key: the batches sealed to
            # it would be lost.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        # Behind both: the new name must be durable, and the temporary one, which is a second name of the
        # same key and would survive its destruction, durably gone. Also where another process was first,
        # which may not have come to this line yet.
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"cannot write '{path}': {error.strerror}") from None


def _destroy(path: Path) -> None:
    # The file is not overwritten: this gains nothing on journalling file systems and on flash. A key that
    # must never come back is sealed to a key elsewhere, and this folder is in no back-up.
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"cannot destroy '{path}': {error.strerror}") from None
