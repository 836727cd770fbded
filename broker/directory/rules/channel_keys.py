"""Rules for channel keys: how an epoch is published, confirmed, complained of and granted.

    published ──KAS──▶ confirmed: publishers use it
        └──────────────────┴──a recipient──▶ complained of: void; another member publishes the next one

KAS is the key access service. The authority has no part in any of this: it can name members, but it holds
no key of a channel and can give nobody one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from immutables import Map

from broker.clock import HOUR_US
from broker.crypto.seal import SEALED_OVERHEAD, SEED_BYTES
from broker.directory.case import Case, check_issuer, check_text, unsuspended_party
from broker.directory.changes import checked_key_id, register_key, with_channel
from broker.directory.channel import Channel, Epoch, Use, newest_usable
from broker.directory.directory import Directory
from broker.directory.rules.channels import find_open_channel
from broker.errors import FormatError, NotEntitled
from broker.wire.statements import (
    ChannelKeysComplained,
    ChannelKeysConfirmed,
    ChannelKeysPublished,
    EpochGranted,
    KeyUse,
    SealedSeed,
)

__all__ = [
    "EPOCH_US",
    "channel_keys_complained",
    "channel_keys_confirmed",
    "channel_keys_published",
    "epoch_granted",
]

EPOCH_US = HOUR_US
"""Shortest time between two epochs of a channel that nothing forces, in microseconds. The clock is that of
``directory.clocks``.

It is also the shortest time between two complaints of one recipient about one publisher. So neither a
publisher alone, nor a publisher and a recipient that complains by agreement, can publish epochs without end.
"""


def channel_keys_published(case: Case, statement: ChannelKeysPublished) -> Directory:
    """Publish the next epoch of a channel: a member signs, and seals to exactly the current recipients."""
    # (1) The publisher is a member that is not suspended, and it is its turn.
    before = case.before
    publisher = statement.header.issuer
    channel = find_open_channel(before, statement.channel)
    if publisher not in channel.members:
        raise NotEntitled(f"{publisher[:80]!r} is not a member of '{channel.name}'")
    unsuspended_party(before, publisher)
    # Two members may publish at the same time. The first one in log order counts; the other one fails here.
    if statement.epoch != channel.newest_published + 1:
        raise NotEntitled(f"the epoch is {statement.epoch}, expected {channel.newest_published + 1}")
    _check_turn(before, channel, publisher)
    # (2) The seeds go to all who must read and to nobody else. Whether each seed opens cannot be seen here;
    # a recipient that was sealed junk complains.
    if before.kas_name is None or not before.receiving_keys(before.kas_name):
        raise NotEntitled("there is no key access service with a receiving key to seal channel keys to")
    metadata = _seeds_by_recipient(before, channel, "metadata", statement.metadata_seeds)
    content = _seeds_by_recipient(before, channel, "content", statement.content_seeds)
    case.signed_by_party(publisher)
    # (3) Both keys are new. Equal keys for both uses, or an old key, would let auditors or former members
    # open what is sealed to the content key.
    after = _register_epoch_key(before, channel, statement.epoch, "metadata", statement.metadata_key)
    after = _register_epoch_key(after, channel, statement.epoch, "content", statement.content_key)
    # (4) The epoch stands, and waits for the KAS to confirm it.
    epoch = Epoch(
        number=statement.epoch,
        publisher=publisher,
        metadata_key=statement.metadata_key,
        content_key=statement.content_key,
        access_key=None,
        metadata_seeds=metadata,
        content_seeds=content,
        access_seeds=Map(),
        confirmed_at=None,
        complained=False,
        grants=Map(),
    )
    changed = replace(
        channel,
        epochs=channel.epochs.set(epoch.number, epoch),
        newest_published=epoch.number,
        needs_new_epoch=False,
        published_size=before.size + 1,
    )
    return with_channel(after, changed)


def _check_turn(directory: Directory, channel: Channel, publisher: str) -> None:
    newest = channel.epochs.get(channel.newest_published)
    if newest is None:
        return
    if newest.complained and newest.publisher == publisher:
        raise NotEntitled(
            f"a recipient complained of epoch {newest.number}, which '{publisher}' published: another member "
            "must publish the next one"
        )
    # Stands against a member that publishes epochs without end.
    young = not directory.clocks.have_passed(EPOCH_US, since=channel.published_size)
    if young and not channel.needs_new_epoch:
        raise NotEntitled(
            f"channel '{channel.name}' had a new epoch less than an hour ago and needs no other one yet"
        )


def _register_epoch_key(
    directory: Directory, channel: Channel, epoch: int, use: Use, public: bytes
) -> Directory:
    key_id = checked_key_id(public, KeyUse.RECEIVING)
    return register_key(directory, key_id, f"{channel.name} {use} {epoch}")


def _seeds_by_recipient(
    directory: Directory, channel: Channel, use: Use, seeds: tuple[SealedSeed, ...]
) -> Map[str, tuple[SealedSeed, ...]]:
    """Return the seeds by recipient, after checking that there is one for each recipient of this use.

    Each seed must be sealed to the recipient's newest receiving key. Raises FormatError or NotEntitled.
    """
    expected = {recipient.name: recipient.key_id for recipient in directory.recipients(channel.name, use)}
    names = [seed.recipient for seed in seeds]
    if len(set(names)) != len(names):
        raise FormatError(f"a recipient of {use} seeds is listed twice")
    # Stands against a member that leaves out whom it does not want to read, and against one that seals to
    # a former member or to an outsider.
    missing = expected.keys() - set(names)
    foreign = set(names) - expected.keys()
    if missing or foreign:
        raise NotEntitled(f"{use} seeds do not match the recipients: {_difference(missing, foreign)}")
    for seed in seeds:
        _check_seed(seed, expected[seed.recipient], use)
    return Map({seed.recipient: (seed,) for seed in seeds})


def _check_seed(seed: SealedSeed, key_id: bytes, use: Use) -> None:
    if seed.key_id != key_id:
        raise NotEntitled(f"the {use} seed of '{seed.recipient}' is not sealed to its newest receiving key")
    size = SEALED_OVERHEAD + SEED_BYTES
    if len(seed.sealed) != size:
        raise FormatError(
            f"the sealed seed of '{seed.recipient}' has {len(seed.sealed)} bytes, expected {size}"
        )


def _difference(missing: Iterable[str], foreign: Iterable[str]) -> str:
    parts = [f"'{name[:80]}' has no seed" for name in sorted(missing)]
    parts += [f"'{name[:80]}' is not a recipient" for name in sorted(foreign)]
    # The error goes into reports, and the names are a stranger's text: eight of them are enough.
    return ", ".join(parts[:8])


def channel_keys_confirmed(case: Case, statement: ChannelKeysConfirmed) -> Directory:
    """Confirm the newest epoch: the KAS signs, and adds an access key of its own making.

    A KAS confirms an epoch when its own seed opens, and complains of it otherwise. So an epoch with a junk
    seed for the KAS never comes into use.
    """
    before = case.before
    channel = find_open_channel(before, statement.channel)
    if before.kas_name is None:
        raise NotEntitled("there is no key access service")
    check_issuer(statement.header, before.kas_name)
    epoch = _newest_epoch(channel, statement.epoch)
    if epoch.complained:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is void: a recipient complained of it")
    if epoch.confirmed_at is not None:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is confirmed already")
    seeds = _seeds_by_recipient(before, channel, "access", statement.access_seeds)
    case.signed_by_party(before.kas_name)
    # Members hold the metadata key and must not open the access log, so its key has to be another one.
    after = _register_epoch_key(before, channel, epoch.number, "access", statement.access_key)
    confirmed = replace(
        epoch, access_key=statement.access_key, access_seeds=seeds, confirmed_at=before.size + 1
    )
    epochs = channel.epochs.set(epoch.number, confirmed)
    return with_channel(after, replace(channel, epochs=epochs, newest_confirmed=epoch.number))


def channel_keys_complained(case: Case, statement: ChannelKeysComplained) -> Directory:
    """Complain of the newest epoch: a recipient signs that its seeds do not open, and the epoch is void.

    Nobody else can see whether the complaint is true, so it is believed, and another member publishes the
    next epoch. A recipient that lies can do so once an hour for each publisher.
    """
    before = case.before
    name = statement.header.issuer
    channel = find_open_channel(before, statement.channel)
    epoch = _newest_epoch(channel, statement.epoch)
    check_text(statement.detail, "detail")
    if not epoch.is_recipient(name):
        raise NotEntitled(f"{name[:80]!r} is not a recipient of epoch {epoch.number} of '{channel.name}'")
    # Stands against a former member that goes on voiding epochs.
    if name not in {*channel.members, *channel.auditors, before.kas_name}:
        raise NotEntitled(f"'{name}' no longer takes part in '{channel.name}'")
    if epoch.complained:
        raise NotEntitled(
            f"epoch {epoch.number} of '{channel.name}' is void already: a recipient complained of it"
        )
    # Stands against two members that publish and complain in turn, so that epochs never end.
    last = channel.complaints.get((name, epoch.publisher))
    if last is not None and not before.clocks.have_passed(EPOCH_US, since=last):
        raise NotEntitled(f"'{name}' complained of '{epoch.publisher}' less than an hour ago already")
    case.signed_by_party(name)
    epochs = channel.epochs.set(epoch.number, replace(epoch, complained=True))
    changed = replace(
        channel,
        epochs=epochs,
        # Until the next epoch is confirmed, publishers use the one before the void one. Publishing must not
        # stop because a recipient complains.
        newest_confirmed=newest_usable(epochs, channel.newest_confirmed),
        needs_new_epoch=True,
        complaints=channel.complaints.set((name, epoch.publisher), before.size + 1),
    )
    return with_channel(before, changed)


def _newest_epoch(channel: Channel, number: int) -> Epoch:
    """Return the epoch with this number; raises NotEntitled unless it is the newest one published."""
    epoch = channel.epochs.get(number)
    if epoch is None or number != channel.newest_published:
        raise NotEntitled(
            f"epoch {number} is not the newest of '{channel.name}', expected {channel.newest_published}"
        )
    return epoch


def epoch_granted(case: Case, statement: EpochGranted) -> Directory:
    """Grant seeds of an earlier epoch to current recipients: a member signs, or the KAS for access seeds.

    The granter must have been sealed the seed itself.
    """
    before = case.before
    granter = statement.header.issuer
    channel = find_open_channel(before, statement.channel)
    seeds: dict[Use, tuple[SealedSeed, ...]] = {
        "metadata": statement.metadata_seeds,
        "content": statement.content_seeds,
        "access": statement.access_seeds,
    }
    if granter == before.kas_name:
        if seeds["metadata"] or seeds["content"]:
            raise NotEntitled("the key access service may grant access seeds only")
    elif granter not in channel.members:
        raise NotEntitled(f"{granter[:80]!r} is not a member of '{channel.name}'")
    unsuspended_party(before, granter)
    epoch = channel.epochs.get(statement.epoch)
    if epoch is None:
        raise NotEntitled(f"channel '{channel.name}' has no epoch {statement.epoch}")
    if not any(seeds.values()):
        raise FormatError("the grant holds no seed")
    granted = epoch
    for use, seeds_of_use in seeds.items():
        for seed in seeds_of_use:
            granted = _with_grant(before, channel, granted, use, granter, seed)
    case.signed_by_party(granter)
    return with_channel(before, replace(channel, epochs=channel.epochs.set(epoch.number, granted)))


def _with_grant(
    directory: Directory, channel: Channel, epoch: Epoch, use: Use, granter: str, seed: SealedSeed
) -> Epoch:
    """Return the epoch with one more seed."""
    held = epoch.seeds(use)
    name = seed.recipient
    if granter not in held:
        raise NotEntitled(f"'{granter}' has no {use} seed of epoch {epoch.number} to grant")
    # Stands against a member that grants content seeds to an auditor, or any seed to an outsider.
    current = {recipient.name: recipient.key_id for recipient in directory.recipients(channel.name, use)}
    if name not in current:
        raise NotEntitled(f"'{name[:80]}' is not a recipient of {use} seeds of '{channel.name}'")
    _check_seed(seed, current[name], use)
    # Each granter may grant once to each key of a recipient. A member that grants junk first does not bar
    # the others, and a recipient with a new receiving key may be granted the epoch again.
    grant = (granter, use, name, seed.key_id)
    if grant in epoch.grants:
        raise NotEntitled(f"'{granter}' has granted '{name}' the {use} seed of epoch {epoch.number} already")
    more = held.set(name, (*held.get(name, ()), seed))
    grants = epoch.grants.set(grant, directory.size)
    match use:
        case "metadata":
            return replace(epoch, metadata_seeds=more, grants=grants)
        case "content":
            return replace(epoch, content_seeds=more, grants=grants)
        case "access":
            return replace(epoch, access_seeds=more, grants=grants)
