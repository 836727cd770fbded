"""Statements made: headers, signatures, and the keys of an epoch sealed to its recipients.

The other statements are put together by ``drafts``; whoever holds the keys signs them here:

    statement = drafts.suspend_agency(directory, agency="XAA:police", reason="…", issued_at=now)
    signed = sign_statement(statement, authority_keys, directory.genesis)
    key, value = directory_message(signed)
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
    """Sign a statement with each of these keys; a genesis statement is bound to no coalition but itself."""
    unsigned = Signed(kind=kind_of(statement), content=encode(statement), signatures=())
    return countersign(unsigned, keys, NO_GENESIS if isinstance(statement, Genesis) else genesis)


def countersign(signed: Signed, keys: Sequence[SigningKey], genesis: bytes) -> Signed:
    """Add signatures, as the k keys of an authority and the members of a channel do one after another."""
    added = tuple(
        KeySignature(key_id=key.key_id, signature=key.sign(signed.kind, genesis, signed.content))
        for key in keys
    )
    return Signed(kind=signed.kind, content=signed.content, signatures=signed.signatures + added)


def directory_message(signed: Signed) -> tuple[bytes, bytes]:
    """(key, value) of the message to append to ftf.directory."""
    return b"", encode(signed)


def header_for(directory: Directory, issuer: str, *, issued_at: int, previous: bytes = NO_DIGEST) -> Header:
    """The header of a directory statement by somebody who has applied this directory."""
    return Header(
        topic="directory",
        partition=0,
        epoch=-1,
        issuer=issuer,
        issued_at=issued_at,
        directory_size=directory.size,
        directory_head=directory.head,
        stream=bytes(16),
        sequence=0,
        previous=previous,
    )


def authority_header(directory: Directory, issued_at: int) -> Header:
    """The header of the authority's next statement; it follows the authority's last one."""
    return header_for(directory, AUTHORITY, issued_at=issued_at, previous=directory.authority.last)


def seal_seed(
    directory: Directory, channel: str, epoch: int, use: Use, seed: bytes, recipients: Sequence[Recipient]
) -> tuple[SealedSeed, ...]:
    """A seed sealed to each of these recipients."""
    return tuple(
        SealedSeed(
            recipient=one.name,
            key_id=one.key_id,
            sealed=seal(one.public, seed, seed_info(directory.genesis, channel, epoch, use, one.key_id)),
        )
        for one in recipients
    )


def _fresh_seeds(
    directory: Directory, channel: str, epoch: int, use: Use
) -> tuple[bytes, tuple[SealedSeed, ...]]:
    """The public key of a fresh seed, and the seed sealed to all who must have it now."""
    seed = secrets.token_bytes(SEED_BYTES)
    sealed = seal_seed(directory, channel, epoch, use, seed, directory.recipients(channel, use))
    return epoch_key(seed).public, sealed


def make_channel_keys(
    directory: Directory, channel: str, publisher: str, issued_at: int
) -> ChannelKeysPublished:
    """The next epoch of a channel, its keys drawn afresh and sealed to exactly the current recipients."""
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
    """The KAS's confirmation of the newest epoch, with an access key drawn afresh.

    The KAS first opens its own seed (``epochs.epoch_keys``) and complains if it cannot.
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
    """An earlier epoch for a later recipient: an auditor gets the metadata seed of a member, and the
    access seed of the key access service.
    """

    def sealed(use: Use, seed: bytes | None) -> tuple[SealedSeed, ...]:
        if seed is None:
            return ()
        found = [one for one in directory.recipients(channel, use) if one.name == recipient]
        if not found:
            raise UsageError(f"{recipient[:80]!r} is no recipient of {use} seeds of {channel[:80]!r}")
        return seal_seed(directory, channel, epoch, use, seed, found)

    return EpochGranted(
        header=header_for(directory, granter, issued_at=issued_at),
        channel=channel,
        epoch=epoch,
        metadata_seeds=sealed("metadata", metadata_seed),
        content_seeds=sealed("content", content_seed),
        access_seeds=sealed("access", access_seed),
    )
