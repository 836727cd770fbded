"""Entitlement to publish: who may publish what where, by one state of the directory."""

from __future__ import annotations

from broker.crypto.sign import verify
from broker.directory import Channel, Directory
from broker.errors import NotEntitled, SignatureInvalid
from broker.wire.envelope import OpenedManifest

__all__ = ["ACCESS_TOPIC", "judge_channel", "judge_claim", "judge_issuer", "verify_manifest"]

ACCESS_TOPIC = "access"


def judge_channel(directory: Directory, partition: int) -> Channel:
    """Return the open channel of this partition; raises NotEntitled where there is no open channel."""
    channel = directory.channel_at(partition)
    if channel is None:
        raise NotEntitled(f"no channel has number {partition}")
    if not channel.is_open:
        raise NotEntitled(f"channel '{channel.name}' is closed")
    return channel


def judge_issuer(directory: Directory, opened: OpenedManifest) -> bytes:
    """Return the public key that must have signed this manifest.

    Raises NotEntitled when its issuer may not publish it. The signature itself is not verified here.
    """
    header = opened.manifest.header
    signatures = opened.signed.signatures
    if len(signatures) != 1:
        raise NotEntitled(f"{len(signatures)} signatures, expected 1")
    return judge_claim(
        directory,
        topic=header.topic,
        partition=header.partition,
        epoch=header.epoch,
        issuer=header.issuer,
        record_type=opened.manifest.record_type,
        key_id=signatures[0].key_id,
    )


def judge_claim(
    directory: Directory,
    *,
    topic: str,
    partition: int,
    epoch: int,
    issuer: str,
    record_type: str,
    key_id: bytes,
) -> bytes:
    """Return the public key of ``key_id`` if its holder may publish this here; else raise NotEntitled.

    (1) The channel is open. (2) Its epoch was confirmed, and no member complained of it. (3) The issuer
    has its role there. (4) The record type is allowed there. (5) The key is an active key of the issuer.
    """
    channel = judge_channel(directory, partition)  # (1)
    published = channel.epochs.get(epoch)
    if published is None or published.confirmed_at is None:
        raise NotEntitled(f"epoch {epoch} of channel '{channel.name}' is not confirmed")  # (2)
    if published.complained:
        raise NotEntitled(f"epoch {epoch} of channel '{channel.name}' is void after a complaint")
    if topic == ACCESS_TOPIC:
        if issuer != directory.kas_name:  # (3)
            raise NotEntitled(f"'{issuer}' is not the key access service")
    elif issuer not in channel.members:
        raise NotEntitled(f"'{issuer}' is no member of channel '{channel.name}'")
    elif record_type not in channel.record_types:  # (4)
        raise NotEntitled(f"channel '{channel.name}' does not allow '{record_type}'")
    return directory.signer(issuer, key_id)  # (5)


def verify_manifest(directory: Directory, opened: OpenedManifest) -> None:
    """Check that this state of the directory entitles the issuer, and that the signature verifies.

    Raises NotEntitled or SignatureInvalid.
    """
    public = judge_issuer(directory, opened)
    signature = opened.signed.signatures[0].signature
    try:
        verify(public, opened.signed.kind, directory.genesis, opened.signed.content, signature)
    except SignatureInvalid as error:
        issuer = opened.manifest.header.issuer
        raise SignatureInvalid(f"manifest of '{issuer}': {error.message}") from None
