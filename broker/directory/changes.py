"""Small changes from one directory to the next, of which the rules are made."""

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
    "checked_key_id",
    "claim_key",
    "force_epochs",
    "fresh_name",
    "new_key",
    "settle_key",
    "with_channel",
    "with_key",
    "with_party",
]


def checked_key_id(public: bytes, use: KeyUse) -> bytes:
    """The id of a public key whose form is right for its use; else SignatureInvalid or OpenError."""
    if use is KeyUse.SIGNING:
        return signing_key_id(check_public_key(public))
    return receiving_key_id(check_receiving_public(public))


def claim_key(directory: Directory, key_id: bytes, owner: str) -> Directory:
    """Register a public key as this owner's; NotEntitled where it was ever registered before."""
    taken = directory.owners.get(key_id)
    if taken is not None:
        raise NotEntitled(f"key {key_id.hex()} is already registered, by '{taken}'")
    return replace(directory, owners=directory.owners.set(key_id, owner))


def fresh_name(directory: Directory, name: str) -> str:
    """Return the name if no party has it or had it, and it is not the authority's."""
    if name == AUTHORITY or name in directory.parties:
        raise NotEntitled(f"the name '{name}' is taken")
    return name


def new_key(
    directory: Directory,
    public: bytes,
    use: KeyUse,
    *,
    now: int,
    active_at: int | None = None,
    vouchers: frozenset[bytes] = frozenset(),
    day: int | None = None,
) -> Key:
    """A checked key that is active from now, or pending until ``active_at``."""
    return Key(
        key_id=checked_key_id(public, use),
        public=public,
        use=use,
        state=KeyState.ACTIVE if active_at is None else KeyState.PENDING,
        added_size=directory.size,
        added_at=now,
        active_at=now if active_at is None else active_at,
        active_size=directory.size,
        vouchers=vouchers,
        day=day,
    )


def with_party(directory: Directory, party: Party) -> Directory:
    """The directory with this party as it is now."""
    return replace(directory, parties=directory.parties.set(party.name, party))


def with_channel(directory: Directory, channel: Channel) -> Directory:
    """The directory with this channel as it is now."""
    return replace(directory, channels=directory.channels.set(channel.name, channel))


def with_key(directory: Directory, name: str, key: Key) -> Directory:
    """The directory after a new key of a party, registered to it and with all that follows from it."""
    party = directory.parties[name]
    if key.use is not KeyUse.INTAKE:
        _check_room(party, key)
    directory = claim_key(directory, key.key_id, name)
    if key.state is KeyState.PENDING:
        entry = PendingKey(party=name, key_id=key.key_id, active_at=key.active_at)
        directory = replace(directory, pending=(*directory.pending, entry))
    return settle_key(directory, name, key)


def settle_key(directory: Directory, name: str, key: Key) -> Directory:
    """The directory after a key changed its state; who becomes a recipient by it needs a new epoch."""
    party = directory.parties[name]
    was_recipient = bool(party.active(KeyUse.RECEIVING))
    directory = with_party(directory, replace(party, keys=party.keys.set(key.key_id, key)))
    if key.use is KeyUse.RECEIVING and key.state is KeyState.ACTIVE and not was_recipient:
        directory = force_epochs(directory, channels_of(directory, name))
    if key.use is KeyUse.SIGNING and party.kind is PartyKind.KAS:
        directory = _choose_kas(directory)
    return directory


def _check_room(party: Party, added: Key) -> None:
    use, standing = added.use, (KeyState.ACTIVE, KeyState.PENDING)
    of_use = [key for key in party.keys.values() if key.use is use]
    if sum(key.state in standing for key in of_use) >= MAX_ACTIVE_KEYS:
        raise NotEntitled(f"'{party.name}' has {MAX_ACTIVE_KEYS} keys for {use.lower()} already")
    # Whoever looks for a party's active keys looks at all of them. The authority can always recover it.
    if added.vouchers and len(of_use) >= MAX_KEYS:
        raise NotEntitled(f"'{party.name}' has had {MAX_KEYS} keys for {use.lower()} already")


def _choose_kas(directory: Directory) -> Directory:
    """The KAS is the service whose signing key took effect last; it stays while no key of any is active."""
    newest: tuple[int, str] | None = None
    for party in directory.parties.values():
        if party.kind is PartyKind.KAS and (keys := party.active(KeyUse.SIGNING)):
            newest = max(newest or (-1, ""), (keys[0].active_size, party.name))
    if newest is None or newest[1] == directory.kas_name:
        return directory
    directory = replace(directory, kas_name=newest[1])
    return force_epochs(directory, channels_of(directory, newest[1]))


def channels_of(directory: Directory, name: str) -> tuple[str, ...]:
    """The open channels in which this party is a member or auditor; all of them for the KAS."""
    everywhere = name == directory.kas_name
    return tuple(
        channel.name
        for channel in directory.channels.values()
        if channel.is_open and (everywhere or name in channel.members or name in channel.auditors)
    )


def force_epochs(
    directory: Directory,
    names: Iterable[str],
    change: Callable[[Channel], Channel] = lambda channel: channel,
) -> Directory:
    """The directory after these channels changed so that each needs a new epoch."""
    channels = directory.channels.mutate()
    for name in names:
        channels[name] = replace(change(channels[name]), needs_new_epoch=True)
    return replace(directory, channels=channels.finish())
