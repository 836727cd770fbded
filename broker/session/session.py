"""The session: a participant at work, with its profile, log, directory and keys, and access to records.

    async with open_session(profile) as session:
        session.directory.channels …

The profile's state folder keeps how much of the directory the participant has seen (``directory_state``). A
log that holds less is never accepted again. Otherwise the operator of the log could take back a suspension,
or a new key.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from broker.access.client import KeyAccess
from broker.avro.schema import SchemaStore, default_store
from broker.clock import system_clock
from broker.crypto.sign import SigningKey, signing_key_id
from broker.directory import Directory
from broker.errors import KeyFileError, NotEntitled, UsageError
from broker.log import Log, open_log
from broker.participant.follower import DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.publish.publisher import Publisher
from broker.records.record import Record, from_json
from broker.session.directory_state import load_high_water, load_snapshot, save_seen
from broker.session.key_folder import KeyFolder
from broker.session.passphrase import Ask, passphrase_of
from broker.session.profile import Profile, Role
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Subscriber
from broker.wire.statements import KeyUse

__all__ = [
    "KeyAccessOpener",
    "Session",
    "authority_key_ids",
    "open_session",
]

KeyAccessOpener = Callable[["Session"], AbstractAsyncContextManager[KeyAccess]]
"""Opens a participant's key access service: the one in this process, or the client of one elsewhere."""


@dataclass(slots=True)
class Session:
    """A participant at work. Its keys are read, and the passphrase asked for, when they are first needed."""

    profile: Profile
    log: Log
    follower: DirectoryFollower
    store: SchemaStore
    opener: KeyAccessOpener | None = None
    """Opens the key access service that the profile names; None in a session that never reads."""
    ask: Ask | None = None
    """Asks a person for the passphrase, if it is given nowhere."""
    # Only the properties of the same names write these two, when they are first read. So the keyring stays as
    # it was made: a key that the directory lists later is used from the next session on.
    _keys: KeyFolder | None = None
    _keyring: Keyring | None = field(default=None, repr=False)

    @property
    def directory(self) -> Directory:
        """The directory as far as it was read."""
        return self.follower.history.latest

    def key_access(self) -> AbstractAsyncContextManager[KeyAccess]:
        """The key access service, open while the block runs: ``async with session.key_access() as kas``."""
        if self.opener is None:
            raise UsageError(f"the session of '{self.profile.name}' was opened without key access")
        return self.opener(self)

    @property
    def keys(self) -> KeyFolder:
        """The key store, opened with the profile's passphrase."""
        if self._keys is None:
            self._keys = KeyFolder(self.profile.keys, passphrase_of(self.profile, self.ask))
        return self._keys

    @property
    def keyring(self) -> Keyring:
        """The keys in use: the newest signing key that the directory lists, and all receiving keys."""
        if self._keyring is None:
            signing = self.signing_keys()[0]
            self._keyring = Keyring.of(self.profile.name, signing, self.keys.receiving())
        return self._keyring

    @property
    def participant(self) -> Participant:
        """This participant as a value, as a publisher, a subscriber or an audit takes it."""
        return Participant(
            log=self.log, follower=self.follower, keyring=self.keyring, store=self.store, clock=system_clock
        )

    def publisher(self, *, linger_s: float = 0.05) -> Publisher:
        """Return a publisher of this participant: ``async with session.publisher() as publisher``.

        A batch that is not full is sent ``linger_s`` seconds after its first record.
        """
        return Publisher(self.participant, linger_s=linger_s)

    @asynccontextmanager
    async def subscriber(
        self,
        ground: Ground,
        *,
        record_types: Sequence[str] | None = None,
        state_path: str | os.PathLike[str] | None = None,
        autocommit: bool = True,
    ) -> AsyncIterator[Subscriber]:
        """Open a subscriber of this participant; its key access service is open while the block runs.

        The options are those of :class:`~broker.subscribe.subscriber.Subscriber`.
        """
        async with (
            self.key_access() as kas,
            Subscriber(
                self.participant,
                kas,
                ground=ground,
                record_types=record_types,
                state_path=state_path,
                autocommit=autocommit,
            ) as subscriber,
        ):
            yield subscriber

    def record(self, record_type: str, fields: object) -> Record:
        """Read a record from its JSON form, checked by every rule that holds today.

        Raises RecordInvalid, which lists all that is wrong with it.
        """
        return from_json(record_type, fields, store=self.store, today=datetime.now(UTC).date())

    def signing_keys(self) -> tuple[SigningKey, ...]:
        """Return our signing keys that the directory lists as active, the newest first.

        Without a listed key, as before the agency is admitted, all of our signing keys are returned.
        """
        if self.profile.role is Role.AUTHORITY:
            held = self.keys.signing("authority")
            listed = authority_key_ids(self.directory)
        else:
            held = self.keys.signing()
            party = self.directory.parties.get(self.profile.name)
            listed = {key.key_id for key in party.active(KeyUse.SIGNING)} if party else set()
        if not held:
            raise KeyFileError(f"there is no signing key in '{self.profile.keys}'")
        return tuple(key for key in held if key.key_id in listed) or held


def authority_key_ids(directory: Directory) -> set[bytes]:
    """Return the ids of the authority's keys."""
    return {signing_key_id(public) for public in directory.authority.keys}


@asynccontextmanager
async def open_session(
    profile: Profile, *, key_access: KeyAccessOpener | None = None, ask: Ask | None = None
) -> AsyncIterator[Session]:
    """Open the log that a profile names, and read the directory; the session lasts while the block runs.

    ``key_access`` opens the key access service when the session is asked for it. ``ask`` asks a person for
    the passphrase of the keys, if it is given nowhere.

    Raises UsageError when there is no such log, and NotEntitled when its directory is not the one that the
    profile pins, or holds less than was seen before. Raises LogForked when it does not go on from where the
    profile's snapshot of it ends.
    """
    _check_log_exists(profile)
    async with open_log(profile.log) as log:
        mark = load_high_water(profile)
        snapshot = load_snapshot(profile, mark)
        follower = await DirectoryFollower.start(
            log, profile.genesis, high_water=mark, clock=system_clock, snapshot=snapshot
        )
        # The follower counts no other genesis than the pinned one. This says so to a person, who would
        # otherwise see an empty directory.
        if follower.history.latest.genesis != profile.genesis:
            raise NotEntitled(
                f"the directory of this log is not of the coalition {profile.genesis.hex()}",
                hint="check 'log' in the profile; the pinned genesis is never changed to fit a log",
            )
        # Saved before the caller acts on this directory, and not only afterwards. Otherwise a crash could
        # make the participant forget a directory that it has acted on.
        covered = save_seen(profile, follower, 0 if snapshot is None else snapshot.frontier.size)
        try:
            yield Session(profile, log, follower, default_store(), opener=key_access, ask=ask)
        finally:
            save_seen(profile, follower, covered)


def _check_log_exists(profile: Profile) -> None:
    """Raise UsageError if an embedded log is missing.

    Opening it would create an empty one, which only the founding of a coalition may do.
    """
    parts = urlsplit(profile.log)
    if parts.scheme == "sqlite" and not os.path.exists(unquote(parts.path, errors="surrogateescape")):
        raise UsageError(
            f"there is no log at '{profile.log}'",
            hint=f"check the field 'log' of '{profile.path}'; ftf-broker init founds a coalition and its log",
        )
