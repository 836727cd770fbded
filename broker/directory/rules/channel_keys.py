"""Rules for channel keys: how an epoch is published, confirmed, complained of and granted.

    published ──KAS──▶ confirmed: publishers use it
        └──────────────────┴──a recipient──▶ complained of: another member publishes the next one

KAS is the key access service. A member publishes one half of each seed, and the KAS confirms with the other
half. So a stolen signing key of a member, with which somebody publishes an epoch, gives no seed away.
The authority has no part in any of this: it can name members, but it holds no half and can give nobody one.

A complaint forces a new epoch and stops nothing. While the channel has another epoch for the same
recipients, publishers use that one; otherwise they go on, with a warning, under the one that was complained
of. They never go back to an epoch that a former member can open, or that a newer member cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from immutables import Map

from broker.clock import HOUR_US
from broker.crypto.epoch import HALF_BYTES
from broker.crypto.seal import SEALED_OVERHEAD
from broker.directory.case import Case, check_issuer, check_text, unsuspended_party
from broker.directory.changes import register_key, with_channel
from broker.directory.channel import Channel, Epoch, EpochSeed, Offer, Part, Use
from broker.directory.directory import Directory
from broker.directory.rules.channels import find_open_channel
from broker.errors import FormatError, NotEntitled
from broker.wire.statements import (
    ChannelKeysComplained,
    ChannelKeysConfirmed,
    ChannelKeysPublished,
    EpochGranted,
    SealedHalves,
)

__all__ = [
    "EPOCH_US",
    "channel_keys_complained",
    "channel_keys_confirmed",
    "channel_keys_published",
    "epoch_granted",
    "has_right_epoch",
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
    # (2) The halves go to all who must read and to nobody else. Whether each opens cannot be seen here; a
    # recipient that was sealed junk complains.
    if before.kas_name is None or not before.receiving_keys(before.kas_name):
        raise NotEntitled("there is no key access service with a receiving key to seal channel keys to")
    metadata = _checked_halves(before, channel, "metadata", statement.metadata_halves)
    content = _checked_halves(before, channel, "content", statement.content_halves)
    case.signed_by_party(publisher)
    # (3) Both halves are new. An equal half for both uses, or an old one, would bring what auditors or former
    # members hold closer to the seed of content.
    after = _register_half(before, statement.metadata_commitment, channel, statement.epoch, "metadata")
    after = _register_half(after, statement.content_commitment, channel, statement.epoch, "content")
    # (4) The epoch stands, and waits for the KAS to confirm it with the other halves.
    epoch = Epoch(
        number=statement.epoch,
        publisher=publisher,
        metadata=_begin(case, publisher, statement.metadata_commitment, metadata),
        content=_begin(case, publisher, statement.content_commitment, content),
        access=None,
        confirmed_at=None,
        complained=False,
        void_from=None,
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
    young = not directory.clocks.have_passed(EPOCH_US, since=channel.published_size)
    # Another member may publish at once. If none does, one complaint must not stop the channel for longer.
    if young and newest.complained and newest.publisher == publisher:
        raise NotEntitled(
            f"a recipient complained of epoch {newest.number}, which '{publisher}' published less than an "
            "hour ago: another member must publish the next one"
        )
    # Stands against a member that publishes epochs without end.
    if young and not channel.needs_new_epoch:
        raise NotEntitled(
            f"channel '{channel.name}' had a new epoch less than an hour ago and needs no other one yet"
        )


def _register_half(
    directory: Directory, commitment: bytes, channel: Channel, epoch: int, use: Use
) -> Directory:
    # A commitment names no place, so that a half which was used anywhere before is found here.
    return register_key(directory, commitment, f"{channel.name} {use} {epoch}")


def _begin(case: Case, sealer: str, commitment: bytes, halves: Mapping[str, SealedHalves]) -> EpochSeed:
    """Return a seed of which one half was sealed to each of these recipients."""
    offers = {name: ((_part(case, sealer, sealed),),) for name, sealed in halves.items()}
    return EpochSeed(commitments=(commitment,), offers=Map(offers))


def _part(case: Case, sealer: str, sealed: SealedHalves) -> Part:
    return Part(sealer=sealer, statement=case.digest, sealed=sealed)


def _complete(
    case: Case, sealer: str, seed: EpochSeed, commitment: bytes, halves: Mapping[str, SealedHalves]
) -> EpochSeed:
    """Return a seed to which the service has added its half."""
    offers = seed.offers
    for name, sealed in halves.items():
        # Nothing was granted yet: an epoch that is not confirmed has nothing to grant.
        (first,) = offers[name]
        offers = offers.set(name, ((*first, _part(case, sealer, sealed)),))
    return EpochSeed(commitments=(*seed.commitments, commitment), offers=offers)


def _checked_halves(
    directory: Directory,
    channel: Channel,
    use: Use,
    sealed: tuple[SealedHalves, ...],
    first: EpochSeed | None = None,
) -> dict[str, SealedHalves]:
    """Return the halves by recipient, after checking that there is one for each recipient of this use.

    A second half goes to those recipients who have the ``first`` one. Each must be sealed to the recipient's
    newest receiving key. Raises FormatError or NotEntitled.
    """
    expected = {
        recipient.name: recipient.key_id
        for recipient in directory.recipients(channel.name, use)
        if first is None or recipient.name in first.offers
    }
    names = [half.recipient for half in sealed]
    if len(set(names)) != len(names):
        raise FormatError(f"a recipient of {use} halves is listed twice")
    # Stands against a member that leaves out whom it does not want to read, and against one that seals to
    # a former member or to an outsider.
    missing = expected.keys() - set(names)
    foreign = set(names) - expected.keys()
    if missing or foreign:
        raise NotEntitled(f"{use} halves do not match the recipients: {_difference(missing, foreign)}")
    for half in sealed:
        _check_sealed(half, expected[half.recipient], use, halves=1)
    return {half.recipient: half for half in sealed}


def _check_sealed(sealed: SealedHalves, key_id: bytes, use: Use, *, halves: int) -> None:
    if sealed.key_id != key_id:
        raise NotEntitled(f"the {use} half of '{sealed.recipient}' is not sealed to its newest receiving key")
    size = SEALED_OVERHEAD + HALF_BYTES * halves
    if len(sealed.sealed) != size:
        raise FormatError(
            f"the sealed {use} half of '{sealed.recipient}' has {len(sealed.sealed)} bytes, expected {size}"
        )


def _difference(missing: Iterable[str], foreign: Iterable[str]) -> str:
    parts = [f"'{name[:80]}' has no half" for name in sorted(missing)]
    parts += [f"'{name[:80]}' is not a recipient" for name in sorted(foreign)]
    # The error goes into reports, and the names are a stranger's text: eight of them are enough.
    return ", ".join(parts[:8])


def channel_keys_confirmed(case: Case, statement: ChannelKeysConfirmed) -> Directory:
    """Confirm the newest epoch: the KAS signs, and adds its own half of each seed.

    A KAS confirms an epoch when its own metadata half opens, and complains of it otherwise. So an epoch with
    junk for the KAS never comes into use.
    """
    before = case.before
    channel = find_open_channel(before, statement.channel)
    kas = before.kas_name
    if kas is None:
        raise NotEntitled("there is no key access service")
    check_issuer(statement.header, kas)
    epoch = _newest_epoch(channel, statement.epoch)
    # Where the channel has no other epoch, a complaint must not keep it from this one.
    if epoch.complained and has_right_epoch(before, channel):
        raise NotEntitled(
            f"a recipient complained of epoch {epoch.number} of '{channel.name}', which has another one"
        )
    if epoch.confirmed_at is not None:
        raise NotEntitled(f"epoch {epoch.number} of '{channel.name}' is confirmed already")
    # A member that joined since has no first half, and one that left since gets no second one.
    metadata = _checked_halves(before, channel, "metadata", statement.metadata_halves, epoch.metadata)
    content = _checked_halves(before, channel, "content", statement.content_halves, epoch.content)
    access = _checked_halves(before, channel, "access", statement.access_halves)
    case.signed_by_party(kas)
    # The service must not take the member's half of metadata for its own of content, or as the access seed,
    # which members must not have.
    after = _register_half(before, statement.metadata_commitment, channel, epoch.number, "metadata")
    after = _register_half(after, statement.content_commitment, channel, epoch.number, "content")
    after = _register_half(after, statement.access_commitment, channel, epoch.number, "access")
    confirmed = replace(
        epoch,
        metadata=_complete(case, kas, epoch.metadata, statement.metadata_commitment, metadata),
        content=_complete(case, kas, epoch.content, statement.content_commitment, content),
        access=_begin(case, kas, statement.access_commitment, access),
        confirmed_at=before.size + 1,
    )
    epochs = channel.epochs.set(epoch.number, confirmed)
    used = channel.epoch
    if used is not None and used.complained:
        # From now on there is another epoch to publish under.
        epochs = epochs.set(used.number, replace(used, void_from=before.size + 1))
    return with_channel(after, replace(channel, epochs=epochs, newest_confirmed=epoch.number))


def channel_keys_complained(case: Case, statement: ChannelKeysComplained) -> Directory:
    """Complain of the newest epoch: a recipient signs that its halves do not open or do not fit.

    Nobody else can see whether the complaint is true, so it is believed as far as it does no harm: it forces
    a new epoch, and it voids no batch whose publisher had not seen it. A recipient that lies can do so once
    an hour for each publisher.
    """
    before = case.before
    name = statement.header.issuer
    channel = find_open_channel(before, statement.channel)
    epoch = _newest_epoch(channel, statement.epoch)
    check_text(statement.detail, "detail")
    if not epoch.is_recipient(name):
        raise NotEntitled(f"{name[:80]!r} is not a recipient of epoch {epoch.number} of '{channel.name}'")
    # Stands against a former member that goes on forcing epochs.
    if name not in {*channel.members, *channel.auditors, before.kas_name}:
        raise NotEntitled(f"'{name}' no longer takes part in '{channel.name}'")
    if epoch.complained:
        raise NotEntitled(f"a recipient complained of epoch {epoch.number} of '{channel.name}' already")
    # Stands against two members that publish and complain in turn, so that epochs never end.
    last = channel.complaints.get((name, epoch.publisher))
    if last is not None and not before.clocks.have_passed(EPOCH_US, since=last):
        raise NotEntitled(f"'{name}' complained of '{epoch.publisher}' less than an hour ago already")
    case.signed_by_party(name)
    epochs = channel.epochs.set(epoch.number, replace(epoch, complained=True))
    other = channel.newest_confirmed
    while other >= 0 and not _is_right(before, channel, epochs[other]):
        other -= 1
    if other >= 0:
        epochs = epochs.set(epoch.number, replace(epochs[epoch.number], void_from=before.size + 1))
    changed = replace(
        channel,
        epochs=epochs,
        # Publishing must not stop because a recipient complains. Until the next epoch is confirmed,
        # publishers use an earlier one for the same recipients, or this one where there is none.
        newest_confirmed=other if other >= 0 else channel.newest_confirmed,
        needs_new_epoch=True,
        complaints=channel.complaints.set((name, epoch.publisher), before.size + 1),
    )
    return with_channel(before, changed)


def has_right_epoch(directory: Directory, channel: Channel) -> bool:
    """Tell whether publishers use an epoch for the current recipients, of which nobody complained."""
    return channel.epoch is not None and _is_right(directory, channel, channel.epoch)


def _is_right(directory: Directory, channel: Channel, epoch: Epoch) -> bool:
    if epoch.complained or epoch.confirmed_at is None:
        return False
    uses: tuple[Use, ...] = ("metadata", "content")
    return all(_goes_to_recipients(directory, channel, epoch, use) for use in uses)


def _goes_to_recipients(directory: Directory, channel: Channel, epoch: Epoch, use: Use) -> bool:
    """Tell whether the seed is sealed to active keys of the current recipients, and to nobody else."""
    seed = epoch.seed(use)
    names = {recipient.name for recipient in directory.recipients(channel.name, use)}
    if seed is None or names != set(seed.offers):
        return False
    for name in names:
        active = {key.key_id for key in directory.receiving_keys(name)}
        sealed_to = {part.sealed.key_id for offer in seed.offers[name] for part in offer}
        if not sealed_to <= active:
            return False
    return True


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

    A grant has all halves of a seed, and the granter must have been sealed them itself. Whether they fit the
    commitments is seen by the recipient alone, which then reports the granter.
    """
    before = case.before
    granter = statement.header.issuer
    channel = find_open_channel(before, statement.channel)
    sealed: dict[Use, tuple[SealedHalves, ...]] = {
        "metadata": statement.metadata_halves,
        "content": statement.content_halves,
        "access": statement.access_halves,
    }
    if granter == before.kas_name:
        if sealed["metadata"] or sealed["content"]:
            raise NotEntitled("the key access service may grant access seeds only")
    elif granter not in channel.members:
        raise NotEntitled(f"{granter[:80]!r} is not a member of '{channel.name}'")
    unsuspended_party(before, granter)
    epoch = channel.epochs.get(statement.epoch)
    if epoch is None or epoch.confirmed_at is None:
        raise NotEntitled(f"channel '{channel.name}' has no confirmed epoch {statement.epoch}")
    if not any(sealed.values()):
        raise FormatError("the grant holds no seed")
    granted = epoch
    for use, sealed_for_use in sealed.items():
        for one in sealed_for_use:
            granted = _with_grant(case, channel, granted, use, granter, one)
    case.signed_by_party(granter)
    return with_channel(before, replace(channel, epochs=channel.epochs.set(epoch.number, granted)))


def _with_grant(
    case: Case, channel: Channel, epoch: Epoch, use: Use, granter: str, sealed: SealedHalves
) -> Epoch:
    """Return the epoch with one more offer."""
    seed = epoch.seed(use)
    name = sealed.recipient
    if seed is None or granter not in seed.offers:
        raise NotEntitled(f"'{granter}' has no {use} seed of epoch {epoch.number} to grant")
    # Stands against a member that grants content seeds to an auditor, or any seed to an outsider.
    recipients = case.before.recipients(channel.name, use)
    current = {recipient.name: recipient.key_id for recipient in recipients}
    if name not in current:
        raise NotEntitled(f"'{name[:80]}' is not a recipient of {use} seeds of '{channel.name}'")
    _check_sealed(sealed, current[name], use, halves=len(seed.commitments))
    # Each granter may grant once to each key of a recipient. A member that grants junk first does not bar
    # the others, and a recipient with a new receiving key may be granted the epoch again.
    grant = (granter, use, name, sealed.key_id)
    if grant in epoch.grants:
        raise NotEntitled(f"'{granter}' has granted '{name}' the {use} seed of epoch {epoch.number} already")
    offer: Offer = (_part(case, granter, sealed),)
    more = replace(seed, offers=seed.offers.set(name, (*seed.offers.get(name, ()), offer)))
    grants = epoch.grants.set(grant, case.digest)
    match use:
        case "metadata":
            return replace(epoch, metadata=more, grants=grants)
        case "content":
            return replace(epoch, content=more, grants=grants)
        case "access":
            return replace(epoch, access=more, grants=grants)
