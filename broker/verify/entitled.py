"""Who may publish what where, judged by one state of the directory."""

from __future__ import annotations

from broker.crypto.sign import verify
from broker.directory import Channel, Directory
from broker.errors import NotEntitled, SignatureInvalid
from broker.formats.batch import OpenedManifest

__all__ = ["ACCESS_TOPIC", "judge_channel", "judge_issuer", "verify_manifest"]

ACCESS_TOPIC = "access"


def judge_channel(directory: Directory, partition: int) -> Channel:
    """The open channel of this partition; NotEntitled where there is none."""
    channel = directory.channel_at(partition)
    if channel is None:
        raise NotEntitled(f"no channel has number {partition}")
    if not channel.is_open:
        raise NotEntitled(f"channel '{channel.name}' is closed")
    return channel


def judge_issuer(directory: Directory, opened: OpenedManifest) -> bytes:
    """The public key that must have signed this manifest; NotEntitled says why it may not be published.

    (1) the channel is open, (2) its epoch was confirmed and nobody complained of it, (3) the issuer
    has its role there, (4) the record type is allowed there, (5) exactly one signature, by an active
    key of the issuer.
    """
    manifest, signed = opened.manifest, opened.signed
    header = manifest.header
    channel = judge_channel(directory, header.partition)  # (1)
    epoch = channel.epochs.get(header.epoch)
    if epoch is None or epoch.confirmed_at is None:
        raise NotEntitled(f"epoch {header.epoch} of channel '{channel.name}' is not confirmed")  # (2)
    if epoch.complained:
        raise NotEntitled(f"epoch {header.epoch} of channel '{channel.name}' is void after a complaint")
    if header.topic == ACCESS_TOPIC:
        if header.issuer != directory.kas_name:  # (3)
            raise NotEntitled(f"'{header.issuer}' is not the key access service")
    elif header.issuer not in channel.members:
        raise NotEntitled(f"'{header.issuer}' is no member of channel '{channel.name}'")
    elif manifest.record_type not in channel.record_types:  # (4)
        raise NotEntitled(f"channel '{channel.name}' does not allow '{manifest.record_type}'")
    if len(signed.signatures) != 1:
        raise NotEntitled(f"{len(signed.signatures)} signatures, expected 1")  # (5)
    return directory.signer(header.issuer, signed.signatures[0].key_id)


def verify_manifest(directory: Directory, opened: OpenedManifest) -> None:
    """Judge a manifest by this state of the directory: entitled, and its signature verifies."""
    public = judge_issuer(directory, opened)
    signature = opened.signed.signatures[0].signature
    try:
        verify(public, opened.signed.kind, directory.genesis, opened.signed.content, signature)
    except SignatureInvalid as error:
        issuer = opened.manifest.header.issuer
        raise SignatureInvalid(f"manifest of '{issuer}': {error.message}") from None
