"""Changes of a directory from which the rules are made: a new key, a changed party, a forced epoch.

Each function takes a directory and returns the next one. None of them looks at signatures: the rule that
calls it has checked who signed. What must follow from a change always follows here, so that no rule can
forget it: a key is registered to its owner, a new recipient forces new epochs, a KAS key may change the
key access service (KAS).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from broker.crypto.seal import check_receiving_public, receiving_key_id
from broker.crypto.sign import check_public_key, signing_key_id
from broker.directory.channel import Channel
from broker.directory.directory import Directory
from broker.directory.party import (
    AUTHORITY,
    MAX_ACTIVE_KEYS,
    MAX_KEYS,
    MAX_PENDING_KEYS,
    Key,
    KeyState,
    Party,
    PartyKind,
    PendingKey,
)
from broker.errors import NotEntitled
from broker.wire.statements import KeyUse

__all__ = [
    "channels_of",
    "check_name_is_free",
    "checked_key_id",
    "force_epochs",
    "make_key",
    "register_key",
    "with_channel",
    "with_key",
    "with_new_key",
    "with_party",
]


def checked_key_id(public: bytes, use: KeyUse) -> bytes:
    """Return the id of a public key after checking its form.

    Raises SignatureInvalid for a signing key and OpenError for a receiving or intake key whose form is
    wrong (schemas/README.md, section 3).
    """
    # Stands against keys of small order and keys in a second encoding. Under a key of small order one
    # signature fits every message, so that a signature by it proves nothing.
    if use is KeyUse.SIGNING:
        return signing_key_id(check_public_key(public))
    return receiving_key_id(check_receiving_public(public))


def register_key(directory: Directory, key_id: bytes, owner: str) -> Directory:
    """Register a public key to its owner; raises NotEntitled when the key was ever registered before."""
    # Stands against a party that registers another party's public key as its own. A signing key proves
    # its possession besides; a receiving key cannot sign, so that this check is all there is. It also
    # keeps the keys of an epoch different from each other and from those of all earlier epochs.
    taken = directory.owners.get(key_id)
    if taken is not None:
        raise NotEntitled(f"key {key_id.hex()} is already registered, by '{taken}'")
    return replace(directory, owners=directory.owners.set(key_id, owner))


def check_name_is_free(directory: Directory, name: str) -> None:
    """Raise NotEntitled when a party has this name, or when it is the authority's."""
    if name == AUTHORITY or name in directory.parties:
        raise NotEntitled(f"the name '{name}' is taken")


def make_key(
    directory: Directory,
    public: bytes,
    use: KeyUse,
    *,
    added_at: int,
    vouchers: frozenset[bytes] = frozenset(),
    day: int | None = None,
) -> Key:
    """Return an active key, after checking the form of its public key."""
    return Key(
        key_id=checked_key_id(public, use),
        public=public,
        use=use,
        state=KeyState.ACTIVE,
        added_size=directory.size,
        added_at=added_at,
        active_size=directory.size,
        vouchers=vouchers,
        day=day,
    )


def with_party(directory: Directory, party: Party) -> Directory:
    """Return the directory with this party in place of the one of its name, if any."""
    return replace(directory, parties=directory.parties.set(party.name, party))


def with_channel(directory: Directory, channel: Channel) -> Directory:
    """Return the directory with this channel in place of the one of its name, if any."""
    return replace(directory, channels=directory.channels.set(channel.name, channel))


def with_new_key(directory: Directory, name: str, key: Key) -> Directory:
    """Return the directory after a party got a new key, active or pending.

    Raises NotEntitled when the key was registered before, or when the party has too many keys.
    """
    party = directory.parties[name]
    # Intake keys have a bound of their own, one for each day; see rules/keys.
    if key.use is not KeyUse.INTAKE:
        _check_room(party, key)
    directory = register_key(directory, key.key_id, name)
    if key.state is KeyState.PENDING:
        entry = PendingKey(party=name, key_id=key.key_id, size=key.added_size + 1)
        directory = replace(directory, pending=(*directory.pending, entry))
    return with_key(directory, name, key)


def with_key(directory: Directory, name: str, key: Key) -> Directory:
    """Return the directory after a party's key is new or has another state, with all that follows.

    A party that gets its first active receiving key becomes a recipient, and its channels need new
    epochs. A signing key of a KAS may put another service in charge.
    """
    party = directory.parties[name]
    # Read before the key is set: afterwards the party would look as if it had been a recipient all along.
    was_recipient = bool(party.active(KeyUse.RECEIVING))
    directory = with_party(directory, replace(party, keys=party.keys.set(key.key_id, key)))
    if key.use is KeyUse.RECEIVING and key.state is KeyState.ACTIVE and not was_recipient:
        directory = force_epochs(directory, channels_of(directory, name))
    if key.use is KeyUse.SIGNING and party.kind is PartyKind.KAS:
        directory = _choose_kas(directory)
    return directory


def _check_room(party: Party, added: Key) -> None:
    use = added.use
    keys = [key for key in party.keys.values() if key.use is use]
    held = sum(key.state in (KeyState.ACTIVE, KeyState.PENDING) for key in keys)
    # A key by the authority has no vouchers. It finds room on purpose where the party's own keys have filled
    # theirs, so that the authority can always recover a party from a thief.
    if not added.vouchers:
        if held >= 2 * MAX_ACTIVE_KEYS:
            raise NotEntitled(f"'{party.name}' has {held} keys for {use.lower()} already")
        return
    if held >= MAX_ACTIVE_KEYS:
        raise NotEntitled(f"'{party.name}' has {MAX_ACTIVE_KEYS} keys for {use.lower()} already")
    # Stands against a party that adds and revokes keys without end: every participant looks through all
    # of them for the active ones.
    if len(keys) >= MAX_KEYS:
        raise NotEntitled(f"'{party.name}' has had {MAX_KEYS} keys for {use.lower()} already")
    # Stands against a thief whose pending keys nobody could tell from the one that the party is waiting for.
    if sum(key.state is KeyState.PENDING for key in keys) >= MAX_PENDING_KEYS:
        raise NotEntitled(f"'{party.name}' has {MAX_PENDING_KEYS} pending keys for {use.lower()} already")


def _choose_kas(directory: Directory) -> Directory:
    """Put the KAS whose signing key took effect last in charge.

    While no KAS has an active signing key, the one in charge stays in charge.
    """
    newest: tuple[int, str] | None = None
    for party in directory.parties.values():
        if party.kind is PartyKind.KAS and (keys := party.active(KeyUse.SIGNING)):
            # Two keys may take effect with one message. The name then decides, so that all participants
            # choose the same service.
            newest = max(newest or (-1, ""), (keys[0].active_size, party.name))
    if newest is None or newest[1] == directory.kas_name:
        return directory
    directory = replace(directory, kas_name=newest[1])
    return force_epochs(directory, channels_of(directory, newest[1]))


def channels_of(directory: Directory, name: str) -> tuple[str, ...]:
    """Return the open channels in which this party is a member or auditor; for the KAS, all open ones."""
    is_kas = name == directory.kas_name
    return tuple(
        channel.name
        for channel in directory.channels.values()
        if channel.is_open and (is_kas or name in channel.members or name in channel.auditors)
    )


def force_epochs(
    directory: Directory,
    names: Iterable[str],
    change: Callable[[Channel], Channel] = lambda channel: channel,
) -> Directory:
    """Return the directory after these channels changed in such a way that each needs a new epoch."""
    channels = directory.channels.mutate()
    for name in names:
        channels[name] = replace(change(channels[name]), needs_new_epoch=True)
    return replace(directory, channels=channels.finish())
