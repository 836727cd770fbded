"""Taking a batch over: judged again by the service's own directory, its release secret opened.

A batch that every reader accepts may still be REFUSED here: nothing of it is released and its orders
do not count. So a stolen key that was revoked cannot date itself back to where it was valid, and an
issuer whose release secret does not give what it signed for is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.crypto.lock import context_of, release_shares, wrong_release_shares
from broker.crypto.seal import open_sealed, release_info
from broker.directory import Directory
from broker.errors import NotEntitled, OpenError
from broker.services.kas.keystore import KeyStore
from broker.verify.entitlement import judge_issuer
from broker.verify.partition import VerifiedBatch
from broker.wire.manifest import Collected, CollectionStatus

__all__ = ["INTAKE_DAYS_ACCEPTED", "KeyMissing", "TakenOver", "take_over"]

INTAKE_DAYS_ACCEPTED = 2
"""Days after its own for which batches under an intake key are taken over."""

_MICROSECONDS_A_DAY = 86_400_000_000
_MAX_DETAIL = 200


class KeyMissing(Exception):
    """The intake key should be at hand and is not: the operator's fault, not the issuer's."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TakenOver:
    """What a COLLECTION entry will say of a batch; the release secret where it is COLLECTED."""

    listed: Collected
    secret: bytes | None


def take_over(batch: VerifiedBatch, directory: Directory, store: KeyStore) -> TakenOver:
    """COLLECTED with its release secret, or REFUSED with the reason.

    (1) its issuer is entitled now too, (2) its intake key is ours, and in time, (3) the release
    secret opens, (4) and gives the release check of every record. KeyMissing where (2) is our fault.
    """
    try:
        judge_issuer(directory, batch.opened)  # (1); the signature was verified with this very key
        secret = _open_secret(batch, directory, store)
    except (NotEntitled, OpenError) as error:
        return _taken(batch, CollectionStatus.REFUSED, None, error.message)
    return _taken(batch, CollectionStatus.COLLECTED, secret, "")


def _taken(batch: VerifiedBatch, status: CollectionStatus, secret: bytes | None, detail: str) -> TakenOver:
    listed = Collected(
        topic=batch.topic,
        offset=batch.offset,
        batch_id=batch.batch_id,
        count=batch.opened.manifest.count,
        status=status,
        detail=detail[:_MAX_DETAIL],
    )
    return TakenOver(listed=listed, secret=secret)


def _open_secret(batch: VerifiedBatch, directory: Directory, store: KeyStore) -> bytes:
    manifest = batch.opened.manifest
    issuer = manifest.header.issuer
    intake = directory.intake_keys.get(manifest.intake_key_id)
    if intake is None or intake.service != directory.kas_name:
        raise NotEntitled("the intake key is not the key access service's")  # (2)
    if batch.appended_at >= (intake.day + 1 + INTAKE_DAYS_ACCEPTED) * _MICROSECONDS_A_DAY:
        raise NotEntitled(f"the intake key of day {intake.day} is out of date")
    key = store.intake_key(intake.day)
    if key is None or key.key_id != intake.key_id:
        raise KeyMissing(f"the intake key of day {intake.day} is not in the key store")
    header = manifest.header
    context = context_of(
        directory.genesis, header.topic, header.partition, header.epoch, issuer, manifest.manifest_id
    )
    try:
        secret = open_sealed(key, manifest.release_seal, release_info(context, key.key_id))  # (3)
        shares = release_shares(context, secret, range(manifest.count))
    except OpenError as error:
        raise OpenError(f"'{issuer}': release secret: {error.message}") from None
    checks = batch.opened.entries.release_checks
    if wrong := wrong_release_shares(context, range(manifest.count), shares, checks):  # (4)
        raise OpenError(f"'{issuer}': release secret does not give the release check of record {min(wrong)}")
    return secret
