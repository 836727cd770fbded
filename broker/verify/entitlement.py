"""Signature and entitlement of a manifest: who signed it, and whether its issuer may publish it there.

The signature comes first. What no key of its issuer signed is bytes that anybody may have written, and says
nothing about the issuer whom it names: so nothing else of it is judged, and nobody is accused by it.
"""

from __future__ import annotations

from broker.crypto.sign import verify
from broker.directory import Channel, Directory
from broker.errors import NotEntitled, SignatureInvalid
from broker.wire.envelope import OpenedManifest
from broker.wire.manifest import ACCESS_TOPIC, Signed
from broker.wire.statements import KeyUse

__all__ = [
    "ACCESS_TOPIC",
    "judge_channel",
    "judge_claim",
    "judge_issuer",
    "listed_key",
    "verify_manifest",
    "verify_signature",
]


def listed_key(directory: Directory, issuer: str, key_id: bytes) -> bytes | None:
    """Return the public key that this directory lists for the issuer under this id, whatever its state.

    A key stays listed when it is retired or revoked. None where the directory has never listed it.
    """
    party = directory.parties.get(issuer)
    key = None if party is None else party.keys.get(key_id)
    return key.public if key is not None and key.use is KeyUse.SIGNING else None


def verify_signature(directory: Directory, signed: Signed, issuer: str) -> None:
    """Check that a key of this issuer made the one signature of a statement, whatever may be said of the key.

    Raises SignatureInvalid, whose words name nobody: who wrote the statement is not known then.
    """
    if len(signed.signatures) != 1:
        raise SignatureInvalid(f"{len(signed.signatures)} signatures, expected 1")
    (signature,) = signed.signatures
    public = listed_key(directory, issuer, signature.key_id)
    if public is None:
        raise SignatureInvalid("no key that the directory lists for its issuer made its signature")
    verify(public, signed.kind, directory.genesis, signed.content, signature.signature)


def judge_channel(directory: Directory, partition: int) -> Channel:
    """Return the open channel of this partition; raises NotEntitled where there is no open channel."""
    channel = directory.channel_at(partition)
    if channel is None:
        raise NotEntitled(f"no channel has number {partition}")
    if not channel.is_open:
        raise NotEntitled(f"channel '{channel.name}' is closed")
    return channel


def judge_issuer(directory: Directory, opened: OpenedManifest) -> None:
    """Raise NotEntitled unless the issuer may publish this manifest. Its signature is not verified here."""
    header = opened.manifest.header
    judge_claim(
        directory,
        topic=header.topic,
        partition=header.partition,
        epoch=header.epoch,
        seen=header.directory_size,
        issuer=header.issuer,
        record_type=opened.manifest.record_type,
        key_id=opened.key_id,
    )


def judge_claim(
    directory: Directory,
    *,
    topic: str,
    partition: int,
    epoch: int,
    seen: int,
    issuer: str,
    record_type: str,
    key_id: bytes,
) -> None:
    """Raise NotEntitled unless the holder of the key ``key_id`` may publish this here.

    ``seen`` is the size of the directory that it had seen. (1) The channel is open. (2) Its epoch was
    confirmed, and the publisher had seen no complaint of it beside another epoch. (3) The issuer
    has its role there. (4) The record type is allowed there. (5) The key is an active key of the issuer.
    """
    channel = judge_channel(directory, partition)  # (1)
    published = channel.epochs.get(epoch)
    if published is None or published.confirmed_at is None:
        raise NotEntitled(f"epoch {epoch} of channel '{channel.name}' is not confirmed")  # (2)
    # A complaint voids nothing that was published before its publisher saw it: else any recipient could undo
    # what others have published honestly.
    if published.void_from is not None and seen >= published.void_from:
        raise NotEntitled(f"epoch {epoch} of channel '{channel.name}' was given up after a complaint")
    if topic == ACCESS_TOPIC:
        if issuer != directory.kas_name:  # (3)
            raise NotEntitled(f"'{issuer}' is not the key access service")
    elif issuer not in channel.members:
        raise NotEntitled(f"'{issuer}' is no member of channel '{channel.name}'")
    elif record_type not in channel.record_types:  # (4)
        raise NotEntitled(f"channel '{channel.name}' does not allow '{record_type}'")
    directory.signer(issuer, key_id)  # (5)


def verify_manifest(latest: Directory, directory: Directory, opened: OpenedManifest) -> None:
    """Check the signature by the newest state of the directory, and the entitlement by ``directory``.

    Raises SignatureInvalid first, and then NotEntitled.
    """
    verify_signature(latest, opened.signed, opened.manifest.header.issuer)
    judge_issuer(directory, opened)
