"""Rules for channel keys: published by a member, confirmed by the KAS, complained of, granted.

    published ──KAS──▶ confirmed: publishers use it
        └──────────────────┴──a recipient──▶ complained of: void; another member publishes the next

The authority has no part in it: it can name members, and cannot give anybody a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from immutables import Map

from broker.crypto.seal import SEALED_OVERHEAD, SEED_BYTES
from broker.directory.case import Case, check_issuer, check_text, known_party
from broker.directory.changes import checked_key_id, claim_key, with_channel
from broker.directory.channel import Channel, Epoch, Use, newest_usable
from broker.directory.directory import Directory
from broker.directory.party import Recipient
from broker.directory.rules.channels import open_channel
from broker.directory.rules.keys import HOUR_US
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
"""Least time between two epochs of a channel that nothing forces, and between two complaints of one
recipient about one publisher: neither a publisher nor two who play into each other's hands can
publish epochs without end."""


def channel_keys_published(case: Case, statement: ChannelKeysPublished) -> Directory:
    """By a current member, to exactly the current recipients."""
    before, publisher = case.before, statement.header.issuer
    channel = open_channel(before, statement.channel)
    if publisher not in channel.members:
        raise NotEntitled(f"{publisher[:80]!r} is no member of '{channel.name}'")
    known_party(before, publisher)
    if statement.epoch != channel.newest_published + 1:
        raise NotEntitled(f"epoch {statement.epoch}, expected {channel.newest_published + 1}")
    _check_turn(channel, publisher, case.now)
    if before.kas_name is None or not before.receiving_keys(before.kas_name):
        raise NotEntitled("there is no key access service to publish channel keys to")
    metadata = _exactly(statement.metadata_seeds, before.recipients(channel.name, "metadata"), "metadata")
    content = _exactly(statement.content_seeds, before.recipients(channel.name, "content"), "content")
    case.signed_by_party(publisher)
    after = _claim(before, channel, statement.epoch, "metadata", statement.metadata_key)
    after = _claim(after, channel, statement.epoch, "content", statement.content_key)
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
        published_at=case.now,
    )
    return with_channel(after, changed)


def _check_turn(channel: Channel, publisher: str, now: int) -> None:
    newest = channel.epochs.get(channel.newest_published)
    if newest is None:
        return
    if newest.complained and newest.publisher == publisher:
        raise NotEntitled(f"epoch {newest.number} of '{publisher}' is complained of: another member is next")
    if not channel.needs_new_epoch and now < channel.published_at + EPOCH_US:
        raise NotEntitled(f"channel '{channel.name}' has had a new epoch within the hour and needs none")


def _claim(directory: Directory, channel: Channel, epoch: int, use: Use, public: bytes) -> Directory:
    key_id = checked_key_id(public, KeyUse.RECEIVING)
    return claim_key(directory, key_id, f"{channel.name} {use} {epoch}")


def _exactly(
    seeds: tuple[SealedSeed, ...], recipients: tuple[Recipient, ...], use: Use
) -> Map[str, tuple[SealedSeed, ...]]:
    """The seeds by recipient, if they are one for each of these recipients, to the key it has now."""
    expected = {recipient.name: recipient.key_id for recipient in recipients}
    names = [seed.recipient for seed in seeds]
    if len(set(names)) != len(names):
        raise FormatError(f"a recipient of {use} seeds is listed twice")
    if set(names) != expected.keys():
        missing, foreign = expected.keys() - set(names), set(names) - expected.keys()
        raise NotEntitled(f"{use} seeds are not for the recipients: {_listed(missing, foreign)}")
    for seed in seeds:
        _check_seed(seed, expected[seed.recipient], use)
    return Map({seed.recipient: (seed,) for seed in seeds})


def _check_seed(seed: SealedSeed, key_id: bytes, use: Use) -> None:
    if seed.key_id != key_id:
        raise NotEntitled(f"{use} seed of '{seed.recipient}' is not sealed to its newest receiving key")
    if len(seed.sealed) != SEALED_OVERHEAD + SEED_BYTES:
        raise FormatError(f"sealed seed of {len(seed.sealed)} bytes, expected {SEALED_OVERHEAD + SEED_BYTES}")


def _listed(missing: Iterable[str], foreign: Iterable[str]) -> str:
    words = [f"'{name[:80]}' is missing" for name in sorted(missing)]
    words += [f"'{name[:80]}' is none" for name in sorted(foreign)]
    return ", ".join(words[:8])


def channel_keys_confirmed(case: Case, statement: ChannelKeysConfirmed) -> Directory:
    """By the KAS, with an access key of its own making."""
    before, channel = case.before, open_channel(case.before, statement.channel)
    if before.kas_name is None:
        raise NotEntitled("there is no key access service")
    check_issuer(statement.header, before.kas_name)
    epoch = _newest(channel, statement.epoch)
    if epoch.complained:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is complained of")
    if epoch.confirmed_at is not None:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is confirmed already")
    seeds = _exactly(statement.access_seeds, before.recipients(channel.name, "access"), "access")
    case.signed_by_party(before.kas_name)
    after = _claim(before, channel, epoch.number, "access", statement.access_key)
    confirmed = replace(
        epoch, access_key=statement.access_key, access_seeds=seeds, confirmed_at=before.size + 1
    )
    changed = replace(
        channel, epochs=channel.epochs.set(epoch.number, confirmed), newest_confirmed=epoch.number
    )
    return with_channel(after, changed)


def channel_keys_complained(case: Case, statement: ChannelKeysComplained) -> Directory:
    """By a recipient of the newest epoch; whether it is right cannot be seen, so the next one decides."""
    before, name = case.before, statement.header.issuer
    channel = open_channel(before, statement.channel)
    epoch = _newest(channel, statement.epoch)
    check_text(statement.detail, "detail")
    if not epoch.is_recipient(name):
        raise NotEntitled(f"{name[:80]!r} is no recipient of epoch {epoch.number} of '{channel.name}'")
    if name not in {*channel.members, *channel.auditors, before.kas_name}:
        raise NotEntitled(f"'{name}' has no part in '{channel.name}' any more")
    if epoch.complained:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is complained of already")
    last = channel.complaints.get((name, epoch.publisher))
    if last is not None and case.now < last + EPOCH_US:
        raise NotEntitled(f"'{name}' has complained of '{epoch.publisher}' within the hour")
    case.signed_by_party(name)
    epochs = channel.epochs.set(epoch.number, replace(epoch, complained=True))
    changed = replace(
        channel,
        epochs=epochs,
        # Until the next epoch is confirmed, the one before the void one serves: publishing must not stop.
        newest_confirmed=newest_usable(epochs, channel.newest_confirmed),
        needs_new_epoch=True,
        complaints=channel.complaints.set((name, epoch.publisher), case.now),
    )
    return with_channel(before, changed)


def _newest(channel: Channel, number: int) -> Epoch:
    epoch = channel.epochs.get(number)
    if epoch is None or number != channel.newest_published:
        raise NotEntitled(
            f"epoch {number} is not the newest of '{channel.name}', expected {channel.newest_published}"
        )
    return epoch


def epoch_granted(case: Case, statement: EpochGranted) -> Directory:
    """By a member that has the epoch's seeds, or of access seeds the KAS, to current recipients.

    Each grants once to a recipient's key: what one granted may be junk, and another's is not barred by it.
    """
    before, granter = case.before, statement.header.issuer
    channel = open_channel(before, statement.channel)
    seeds: dict[Use, tuple[SealedSeed, ...]] = {
        "metadata": statement.metadata_seeds,
        "content": statement.content_seeds,
        "access": statement.access_seeds,
    }
    if granter == before.kas_name:
        if seeds["metadata"] or seeds["content"]:
            raise NotEntitled("the key access service grants access seeds only")
    elif granter not in channel.members:
        raise NotEntitled(f"{granter[:80]!r} is no member of '{channel.name}'")
    known_party(before, granter)
    epoch = channel.epochs.get(statement.epoch)
    if epoch is None:
        raise NotEntitled(f"channel '{channel.name}' has no epoch {statement.epoch}")
    if not any(seeds.values()):
        raise FormatError("a grant of nothing")
    granted = epoch
    for use, of_use in seeds.items():
        for seed in of_use:
            granted = _grant(before, channel, granted, use, granter, seed)
    case.signed_by_party(granter)
    return with_channel(before, replace(channel, epochs=channel.epochs.set(epoch.number, granted)))


def _grant(
    directory: Directory, channel: Channel, epoch: Epoch, use: Use, granter: str, seed: SealedSeed
) -> Epoch:
    """The epoch with one more seed; who has a new receiving key may be granted it again."""
    have, name = epoch.seeds(use), seed.recipient
    if granter not in have:
        raise NotEntitled(f"'{granter}' has no {use} seed of epoch {epoch.number} to grant")
    current = {one.name: one.key_id for one in directory.recipients(channel.name, use)}
    if name not in current:
        raise NotEntitled(f"'{name[:80]}' is no recipient of {use} seeds of '{channel.name}'")
    _check_seed(seed, current[name], use)
    grant = (granter, use, name, seed.key_id)
    if grant in epoch.grants:
        raise NotEntitled(f"'{granter}' has granted '{name}' the {use} seed of epoch {epoch.number} already")
    more = have.set(name, (*have.get(name, ()), seed))
    grants = epoch.grants.set(grant, directory.size)
    match use:
        case "metadata":
            return replace(epoch, metadata_seeds=more, grants=grants)
        case "content":
            return replace(epoch, content_seeds=more, grants=grants)
        case "access":
            return replace(epoch, access_seeds=more, grants=grants)
