"""A participant at work: its profile, the log, the directory, its keys, and access to records.

    async with open_session(profile) as session:
        session.directory.channels …

What was seen of the directory is remembered in the state folder, and less is never accepted again.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from broker.crypto.sign import SigningKey, signing_key_id
from broker.directory import Directory, HighWater
from broker.errors import KeyFileError, NotEntitled, UsageError
from broker.formats.schema import SchemaStore, default_store
from broker.formats.statements import KeyUse
from broker.log import Log, open_log
from broker.participant.clock import system_clock
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.session.key_folder import KeyFolder
from broker.session.passphrase import Ask, passphrase_of
from broker.session.profile import Profile, Role

if TYPE_CHECKING:
    from broker.access.client import KeyAccess

__all__ = ["Session", "load_high_water", "open_session", "save_high_water", "write_atomically"]

_HIGH_WATER = "high-water.json"


@dataclass(slots=True)
class Session:
    """A participant at work; its keys are read, and the passphrase asked for, when first needed."""

    profile: Profile
    log: Log
    follower: DirectoryFollower
    store: SchemaStore
    key_access: KeyAccess | None = None
    ask: Ask | None = None
    """Asked for the passphrase where none is given."""
    _keys: KeyFolder | None = None
    _keyring: Keyring | None = field(default=None, repr=False)

    @property
    def directory(self) -> Directory:
        """The directory as far as it was read."""
        return self.follower.history.latest

    @property
    def kas(self) -> KeyAccess:
        """The key access service, if the session was opened with it."""
        if self.key_access is None:
            raise UsageError(f"the session of '{self.profile.name}' was opened without key access")
        return self.key_access

    @property
    def keys(self) -> KeyFolder:
        """The key store, opened with the profile's passphrase."""
        if self._keys is None:
            self._keys = KeyFolder(self.profile.keys, passphrase_of(self.profile, self.ask))
        return self._keys

    @property
    def keyring(self) -> Keyring:
        """The keys in use: the newest signing key that the directory lists, and every receiving key."""
        if self._keyring is None:
            signing = self.signing_keys()[0]
            self._keyring = Keyring.of(self.profile.name, signing, self.keys.receiving())
        return self._keyring

    def signing_keys(self) -> tuple[SigningKey, ...]:
        """Our signing keys that the directory lists as active, the newest first; else all that we have."""
        if self.profile.role is Role.AUTHORITY:
            held, listed = self.keys.signing("authority"), authority_key_ids(self.directory)
        else:
            party = self.directory.parties.get(self.profile.name)
            listed = {key.key_id for key in party.active(KeyUse.SIGNING)} if party else set()
            held = self.keys.signing()
        if not held:
            raise KeyFileError(f"there is no signing key in '{self.profile.keys}'")
        return tuple(key for key in held if key.key_id in listed) or held


def authority_key_ids(directory: Directory) -> set[bytes]:
    """The ids of the authority's keys."""
    return {signing_key_id(public) for public in directory.authority.keys}


@asynccontextmanager
async def open_session(
    profile: Profile, *, with_kas: bool = False, ask: Ask | None = None
) -> AsyncIterator[Session]:
    """Open the log and read the directory; ``with_kas`` also starts or reaches the key access service,
    ``ask`` is asked for the passphrase of the keys where none is given.

    Raises UsageError for a log that is not there, NotEntitled for a directory that is another, or
    less, than what was pinned and seen before.
    """
    _check_log_exists(profile)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(profile.log))
        mark = load_high_water(profile)
        follower = await DirectoryFollower.start(log, profile.genesis, high_water=mark, clock=system_clock)
        if follower.history.latest.genesis != profile.genesis:
            raise NotEntitled(
                f"the directory of this log is not of the coalition {profile.genesis.hex()}",
                hint="check 'log' in the profile; the pinned genesis is never changed to fit a log",
            )
        save_high_water(profile, follower.high_water)
        session = Session(profile, log, follower, default_store(), ask=ask)
        if with_kas:
            from broker.session.local_kas import open_key_access  # which opens a session of its own

            session.key_access = await stack.enter_async_context(open_key_access(session))
        try:
            yield session
        finally:
            save_high_water(profile, follower.high_water)


def _check_log_exists(profile: Profile) -> None:
    """The embedded log creates its file when opened; only founding a coalition may do that."""
    parts = urlsplit(profile.log)
    if parts.scheme == "sqlite" and not os.path.exists(unquote(parts.path, errors="surrogateescape")):
        raise UsageError(
            f"there is no log at '{profile.log}'",
            hint=f"check the field 'log' of '{profile.path}'; ftf-broker init founds a coalition and its log",
        )


def load_high_water(profile: Profile) -> HighWater | None:
    """The most of the directory that this participant has seen; None before the first time."""
    path = profile.state / _HIGH_WATER
    try:
        fields = json.loads(path.read_bytes())
        return HighWater(size=int(fields["size"]), head=bytes.fromhex(fields["head"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"cannot read '{path}': {error}",
            hint="it remembers how much of the directory was seen; ask the authority before you remove it",
        ) from None


def save_high_water(profile: Profile, mark: HighWater) -> None:
    """Remember this mark, unless more was seen already by another process."""
    path = profile.state / _HIGH_WATER
    with _locked(path.with_name(path.name + ".lock")):  # else the slower of two processes takes it back
        before = load_high_water(profile)
        if before is None or before.size < mark.size:
            data = json.dumps({"size": mark.size, "head": mark.head.hex()}) + "\n"
            write_atomically(path, data.encode())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; it stays, since removing it would let two hold it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, durably, for its owner only."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}") from None
