"""Issuance of statements: their headers, their signatures, and the seeds of an epoch.

Statements about channel keys are made here, because they need fresh secrets. All other statements are
drafted in ``drafts``. The holders of the keys then sign them here:

    statement = drafts.suspend_agency(directory, agency="XAA:police", reason="…", issued_at=now)
    signed = sign_statement(statement, authority_keys, directory.genesis)
    key, value = directory_message(signed)

Nothing here checks whether the statement would count: ``fold.apply`` tells.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from broker.crypto.seal import SEED_BYTES, epoch_key, seal, seed_info
from broker.crypto.sign import NO_GENESIS, SigningKey
from broker.directory.channel import Use
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
    SealedSeed,
)

__all__ = [
    "authority_header",
    "confirm_channel_keys",
    "countersign",
    "directory_message",
    "grant_epoch",
    "header_for",
    "make_channel_keys",
    "seal_seed",
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


def seal_seed(
    directory: Directory, channel: str, epoch: int, use: Use, seed: bytes, recipients: Sequence[Recipient]
) -> tuple[SealedSeed, ...]:
    """Seal a seed to each of these recipients."""
    sealed_seeds = []
    for recipient in recipients:
        # The info binds the seed to its place: sealed for one epoch or use, it does not open as another.
        info = seed_info(directory.genesis, channel, epoch, use, recipient.key_id)
        sealed = seal(recipient.public, seed, info)
        sealed_seeds.append(SealedSeed(recipient=recipient.name, key_id=recipient.key_id, sealed=sealed))
    return tuple(sealed_seeds)


def _fresh_seeds(
    directory: Directory, channel: str, epoch: int, use: Use
) -> tuple[bytes, tuple[SealedSeed, ...]]:
    """Draw a seed, and return its public key and the seed sealed to all current recipients of this use."""
    # The maker forgets the seed here. It opens its own sealed seed later, like every other recipient.
    seed = secrets.token_bytes(SEED_BYTES)
    sealed = seal_seed(directory, channel, epoch, use, seed, directory.recipients(channel, use))
    return epoch_key(seed).public, sealed


def make_channel_keys(
    directory: Directory, channel: str, publisher: str, issued_at: int
) -> ChannelKeysPublished:
    """Draft the next epoch of a channel: fresh keys, sealed to exactly the current recipients.

    The publisher, a member, must sign it. Raises UsageError when there is no such channel.
    """
    found = directory.channel(channel)
    if found is None:
        raise UsageError(f"there is no channel {channel[:80]!r}")
    epoch = found.newest_published + 1
    metadata_key, metadata_seeds = _fresh_seeds(directory, channel, epoch, "metadata")
    content_key, content_seeds = _fresh_seeds(directory, channel, epoch, "content")
    return ChannelKeysPublished(
        header=header_for(directory, publisher, issued_at=issued_at),
        channel=channel,
        epoch=epoch,
        metadata_key=metadata_key,
        content_key=content_key,
        metadata_seeds=metadata_seeds,
        content_seeds=content_seeds,
    )


def confirm_channel_keys(
    directory: Directory, channel: str, kas_name: str, issued_at: int
) -> ChannelKeysConfirmed:
    """Draft the confirmation of a channel's newest epoch, with a fresh access key.

    The key access service (KAS) must sign it. Before that the KAS opens its own seed (``epochs.epoch_keys``),
    and makes a ``complaint`` instead when the seed is junk. Raises UsageError when there is no epoch.
    """
    found = directory.channel(channel)
    if found is None or found.newest_published < 0:
        raise UsageError(f"channel '{channel}' has no epoch to confirm")
    access_key, access_seeds = _fresh_seeds(directory, channel, found.newest_published, "access")
    return ChannelKeysConfirmed(
        header=header_for(directory, kas_name, issued_at=issued_at),
        channel=channel,
        epoch=found.newest_published,
        access_key=access_key,
        access_seeds=access_seeds,
    )


def grant_epoch(
    directory: Directory,
    channel: str,
    epoch: int,
    *,
    granter: str,
    recipient: str,
    metadata_seed: bytes | None,
    content_seed: bytes | None,
    access_seed: bytes | None = None,
    issued_at: int,
) -> EpochGranted:
    """Draft a grant of an earlier epoch to a recipient that came later; the granter must sign it.

    A new member gets the metadata and content seeds from another member. A new auditor gets the metadata
    seed from a member, and the access seed from the key access service. Raises UsageError when the recipient
    is not a current recipient of a seed that is granted.
    """

    def sealed(use: Use, seed: bytes | None) -> tuple[SealedSeed, ...]:
        if seed is None:
            return ()
        found = [party for party in directory.recipients(channel, use) if party.name == recipient]
        if not found:
            raise UsageError(f"{recipient[:80]!r} is not a recipient of {use} seeds of {channel[:80]!r}")
        return seal_seed(directory, channel, epoch, use, seed, found)

    return EpochGranted(
        header=header_for(directory, granter, issued_at=issued_at),
        channel=channel,
        epoch=epoch,
        metadata_seeds=sealed("metadata", metadata_seed),
        content_seeds=sealed("content", content_seed),
        access_seeds=sealed("access", access_seed),
    )
