"""Issuance of statements: their headers, their signatures, and the halves of an epoch's seeds.

Statements about channel keys are made here, because they need fresh secrets. All other statements are
drafted in ``drafts``. The holders of the keys then sign them here:

    statement = drafts.suspend_agency(directory, agency="XAA:police", reason="…", issued_at=now)
    signed = sign_statement(statement, authority_keys, directory.genesis)
    key, value = directory_message(signed)

Nothing here checks whether the statement would count: ``fold.apply`` tells.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from broker.crypto.epoch import HALF_BYTES, half_commitment
from broker.crypto.seal import seal, seed_info
from broker.crypto.sign import NO_GENESIS, SigningKey
from broker.directory.channel import EpochSeed, Use
from broker.directory.directory import NO_DIGEST, Directory
from broker.directory.party import AUTHORITY, Recipient
from broker.errors import UsageError
from broker.wire.encoding import Statement, encode, kind_of
from broker.wire.manifest import Header, KeySignature, Signed
from broker.wire.statements import (
    ChannelKeysConfirmed,
    ChannelKeysPublished,
    EpochGranted,
    Genesis,
    SealedHalves,
)

__all__ = [
    "authority_header",
    "confirm_channel_keys",
    "countersign",
    "directory_message",
    "grant_epoch",
    "header_for",
    "make_channel_keys",
    "seal_halves",
    "sign_statement",
]


def sign_statement(statement: Statement, keys: Sequence[SigningKey], genesis: bytes) -> Signed:
    """Sign a statement of the coalition with this genesis hash, with each of these keys."""
    # The genesis statement cannot contain its own hash, so it is signed with zeros in its place.
    unsigned = Signed(kind=kind_of(statement), content=encode(statement), signatures=())
    return countersign(unsigned, keys, NO_GENESIS if isinstance(statement, Genesis) else genesis)


def countersign(signed: Signed, keys: Sequence[SigningKey], genesis: bytes) -> Signed:
    """Return the statement with one more signature by each of these keys.

    So the holders of the authority's keys, or the members of a channel, can sign one after another.
    """
    added = tuple(
        KeySignature(key_id=key.key_id, signature=key.sign(signed.kind, genesis, signed.content))
        for key in keys
    )
    return Signed(kind=signed.kind, content=signed.content, signatures=signed.signatures + added)


def directory_message(signed: Signed) -> tuple[bytes, bytes]:
    """Return (key, value) of the message that carries this statement in ftf.directory."""
    return b"", encode(signed)


def header_for(directory: Directory, issuer: str, *, issued_at: int, previous: bytes = NO_DIGEST) -> Header:
    """Return the header of a directory statement by an issuer that has applied this directory."""
    return Header(
        topic="directory",
        partition=0,
        epoch=-1,
        issuer=issuer,
        issued_at=issued_at,
        directory_size=directory.size,
        directory_root=directory.root,
        stream=bytes(16),
        sequence=0,
        previous=previous,
    )


def authority_header(directory: Directory, issued_at: int) -> Header:
    """Return the header of the authority's next statement, which follows its last one."""
    return header_for(directory, AUTHORITY, issued_at=issued_at, previous=directory.authority.last)


def seal_halves(
    directory: Directory, channel: str, epoch: int, use: Use, halves: bytes, recipients: Iterable[Recipient]
) -> tuple[SealedHalves, ...]:
    """Seal one half of a seed, or all halves of it, to each of these recipients."""
    made = []
    for recipient in recipients:
        # The info binds them to their place: sealed for one epoch or use, they do not open as another.
        info = seed_info(directory.genesis, channel, epoch, use, recipient.key_id)
        sealed = seal(recipient.public, halves, info)
        made.append(SealedHalves(recipient=recipient.name, key_id=recipient.key_id, sealed=sealed))
    return tuple(made)


def _fresh_half(
    directory: Directory, channel: str, epoch: int, use: Use, first: EpochSeed | None = None
) -> tuple[bytes, tuple[SealedHalves, ...]]:
    """Draw a half, and return its commitment and the half sealed to all current recipients of this use.

    A second half is sealed to those of them who have the ``first`` one.
    """
    # The maker forgets the half here. It opens its own sealed half later, like every other recipient.
    half = secrets.token_bytes(HALF_BYTES)
    recipients = [
        recipient
        for recipient in directory.recipients(channel, use)
        if first is None or recipient.name in first.offers
    ]
    sealed = seal_halves(directory, channel, epoch, use, half, recipients)
    return half_commitment(directory.genesis, half), sealed


def make_channel_keys(
    directory: Directory, channel: str, publisher: str, issued_at: int
) -> ChannelKeysPublished:
    """Draft the next epoch of a channel: fresh halves, sealed to exactly the current recipients.

    The publisher, a member, must sign it. Raises UsageError when there is no such channel.
    """
    found = directory.channel(channel)
    if found is None:
        raise UsageError(f"there is no channel {channel[:80]!r}")
    epoch = found.newest_published + 1
    metadata_commitment, metadata_halves = _fresh_half(directory, channel, epoch, "metadata")
    content_commitment, content_halves = _fresh_half(directory, channel, epoch, "content")
    return ChannelKeysPublished(
        header=header_for(directory, publisher, issued_at=issued_at),
        channel=channel,
        epoch=epoch,
        metadata_commitment=metadata_commitment,
        content_commitment=content_commitment,
        metadata_halves=metadata_halves,
        content_halves=content_halves,
    )


def confirm_channel_keys(
    directory: Directory, channel: str, kas_name: str, issued_at: int
) -> ChannelKeysConfirmed:
    """Draft the confirmation of a channel's newest epoch, with fresh second halves and an access seed.

    The key access service (KAS) must sign it. Before that the KAS checks the metadata half that it was sealed
    (``epochs.check_half``), and makes a ``complaint`` instead when it is junk. Raises UsageError when there
    is no epoch.
    """
    found = directory.channel(channel)
    if found is None or found.newest_published < 0:
        raise UsageError(f"channel '{channel}' has no epoch to confirm")
    epoch = found.epochs[found.newest_published]
    number = epoch.number
    metadata_commitment, metadata_halves = _fresh_half(directory, channel, number, "metadata", epoch.metadata)
    content_commitment, content_halves = _fresh_half(directory, channel, number, "content", epoch.content)
    access_commitment, access_halves = _fresh_half(directory, channel, number, "access")
    return ChannelKeysConfirmed(
        header=header_for(directory, kas_name, issued_at=issued_at),
        channel=channel,
        epoch=number,
        metadata_commitment=metadata_commitment,
        content_commitment=content_commitment,
        access_commitment=access_commitment,
        metadata_halves=metadata_halves,
        content_halves=content_halves,
        access_halves=access_halves,
    )


def grant_epoch(
    directory: Directory,
    channel: str,
    epoch: int,
    *,
    granter: str,
    recipient: str,
    metadata: bytes | None,
    content: bytes | None,
    access: bytes | None = None,
    issued_at: int,
) -> EpochGranted:
    """Draft a grant of an earlier epoch to a recipient that came later; the granter must sign it.

    What is granted of a seed is all its halves, joined: ``EpochKey.halves``. A new member gets metadata and
    content from another member. A new auditor gets metadata from a member, and access from the key access
    service. Raises UsageError when the recipient is not a current recipient of a seed that is granted.
    """

    def sealed(use: Use, halves: bytes | None) -> tuple[SealedHalves, ...]:
        if halves is None:
            return ()
        found = [party for party in directory.recipients(channel, use) if party.name == recipient]
        if not found:
            raise UsageError(f"{recipient[:80]!r} is not a recipient of {use} seeds of {channel[:80]!r}")
        return seal_halves(directory, channel, epoch, use, halves, found)

    return EpochGranted(
        header=header_for(directory, granter, issued_at=issued_at),
        channel=channel,
        epoch=epoch,
        metadata_halves=sealed("metadata", metadata),
        content_halves=sealed("content", content),
        access_halves=sealed("access", access),
    )
