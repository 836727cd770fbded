"""A batch as it stands in the log: one manifest message, and its locked bodies behind it.

    manifest message   ``envelope`` says what it is
    body message       key manifest_id | u32(i)   value 0x02 | ciphertext   (``crypto/lock``)

A batch is built in one order: lock the bodies, put the entries into columns, sign the manifest over their
root, seal it. The functions are pure, except that ``Secrets.draw`` and the salts of ``build_batch`` are
random. A retry appends the same bytes; whoever builds a batch anew draws new secrets.

The member share follows from the epoch's content seed, so that every member has it. A batch for named
agencies draws its member share, and seals it to their receiving keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain

from broker.crypto.epoch import FRESH_BYTES, EpochKeys
from broker.crypto.lock import LockedBody, context_of, lock_bodies, locked_size, padded_body
from broker.crypto.merkle import root_of_leaves
from broker.crypto.seal import SEALED_OVERHEAD, member_share_info, release_info, seal
from broker.crypto.sign import SigningKey
from broker.errors import UsageError
from broker.wire.encoding import encode, sign_content
from broker.wire.entry import ENTRY_FIXED_BYTES, count_targets, distinct_terms, leaf_hashes
from broker.wire.envelope import MANIFEST_BLOCK, seal_manifest
from broker.wire.limits import (
    MAX_BATCH_BYTES,
    MAX_MEMBER_SEALS,
    MAX_RECORDS,
    MAX_TARGETS,
    MESSAGE_OVERHEAD,
)
from broker.wire.manifest import Entries, Header, Positions, RecordManifest, Sealed, Terms

__all__ = [
    "Batch",
    "Intake",
    "Item",
    "Secrets",
    "batch_bytes_bound",
    "body_message_key",
    "build_batch",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The intake key of the day, to which the release secret is sealed."""

    key_id: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One record on its way into a batch: its id, its terms and its encoded body."""

    record_id: bytes
    terms: Terms
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    """The random values of one batch; the publisher forgets them when the append is settled."""

    manifest_id: bytes
    member_share: bytes
    """Of a batch for named agencies. That of any other batch follows from the epoch's content seed."""
    release_secret: bytes

    @classmethod
    def draw(cls, content: EpochKeys, items: Sequence[Item]) -> Secrets:
        """Draw the values of a batch with these items; each batch that is built needs its own.

        ``content`` are the keys of the epoch's content seed; in topic ``access`` of its access seed. The
        manifest's id depends on the bodies, so that two batches with different bodies never have one
        context, even when a virtual machine that was resumed twice draws the same bytes twice.
        """
        fresh = secrets.token_bytes(FRESH_BYTES)
        return cls(
            manifest_id=content.manifest_id(fresh, [padded_body(item.body) for item in items]),
            member_share=secrets.token_bytes(32),
            release_secret=secrets.token_bytes(32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that is ready to append; ``messages`` are (key, value) pairs with the manifest first."""

    batch_id: bytes
    manifest: RecordManifest
    messages: tuple[tuple[bytes, bytes], ...]


def body_message_key(manifest_id: bytes, index: int) -> bytes:
    """Return the key of the message that holds body ``index``."""
    return manifest_id + index.to_bytes(4, "big")


def batch_bytes_bound(body_sizes: Sequence[int], terms_bytes: int, member_seals: int) -> int:
    """Return an upper bound of a batch's size as the log counts it; it decides when a batch is full.

    ``terms_bytes`` is the size of the distinct terms, encoded.
    """
    count = len(body_sizes)
    # 1024 bytes hold the longest header, record type and signature, with room to spare.
    manifest = 1024 + member_seals * (SEALED_OVERHEAD + 96) + SEALED_OVERHEAD
    manifest += count * (ENTRY_FIXED_BYTES + 1) + terms_bytes + MANIFEST_BLOCK
    overhead = (count + 1) * (MESSAGE_OVERHEAD + 20)
    return manifest + overhead + sum(locked_size(size) for size in body_sizes)


def build_batch(
    *,
    genesis: bytes,
    header: Header,
    record_type: str,
    schema: bytes,
    items: Sequence[Item],
    key: SigningKey,
    metadata: EpochKeys,
    content: EpochKeys,
    named: Sequence[tuple[bytes, bytes]],
    intake: Intake | None,
    draw: Secrets,
    instead_of: bytes | None = None,
    positions: Positions | None = None,
) -> Batch:
    """Lock, sign and seal a batch.

    ``metadata`` and ``content`` are keys of the epoch; in topic ``access`` both are those of its access seed.
    ``named`` are (key_id, public) of the receiving key of each agency that may read, where releasable_to
    names some. On the access log there is no ``intake``, since its release secret is derived and sealed to
    nobody, and there are ``positions``. ``instead_of`` names the stale batch that this one replaces.
    ``draw`` must be new for each call. Raises UsageError for a batch that is too large or malformed.
    """
    # (1) Refuse what no reader would take.
    terms, term_of = _checked_terms(items, named)
    # (2) Lock the bodies. The context comes from the header that is signed, so every reader derives the same.
    context = context_of(
        genesis, header.topic, header.partition, header.epoch, header.issuer, draw.manifest_id
    )
    member_share = draw.member_share if named else content.member_share(context)
    locked = lock_bodies(context, member_share, draw.release_secret, [item.body for item in items])
    # (3) Put the entries into columns.
    entries = _entries_of(items, locked, terms, term_of)
    # (4) Seal the two shares, and sign the manifest over everything so far.
    info = member_share_info(context)
    release_seal = b""
    if intake is not None:
        release_seal = seal(intake.public, draw.release_secret, release_info(context, intake.key_id))
    manifest = RecordManifest(
        header=header,
        manifest_id=draw.manifest_id,
        record_type=record_type,
        schema=schema,
        member_seals=tuple(
            Sealed(key_id=key_id, sealed=seal(public, member_share, info)) for key_id, public in named
        ),
        intake_key_id=intake.key_id if intake else bytes(32),
        release_seal=release_seal,
        release_root=None,
        count=len(items),
        entries_root=root_of_leaves(leaf_hashes(entries)),
        instead_of=instead_of,
        positions=positions,
    )
    signed = sign_content(key, "manifest", genesis, encode(manifest))
    # (5) Seal the manifest and its entries.
    value = seal_manifest(manifest, signed, entries, keys=metadata)
    body_keys = [body_message_key(draw.manifest_id, i) for i in range(len(items))]
    messages = ((draw.manifest_id, value), *zip(body_keys, [body.value for body in locked], strict=True))
    _check_size(messages)
    return Batch(batch_id=sha256(signed.content).digest(), manifest=manifest, messages=messages)


def _checked_terms(
    items: Sequence[Item], named: Sequence[tuple[bytes, bytes]]
) -> tuple[tuple[Terms, ...], bytes]:
    if not 1 <= len(items) <= MAX_RECORDS:
        raise UsageError(f"batch of {len(items)} records, expected 1 to {MAX_RECORDS}")
    if len(named) > MAX_MEMBER_SEALS:
        raise UsageError(f"batch sealed to {len(named)} keys, at most {MAX_MEMBER_SEALS}")
    if {len(item.record_id) for item in items} != {16}:
        raise UsageError("a record id is 16 bytes")
    terms, term_of = distinct_terms([item.terms for item in items])
    targets = count_targets(terms, term_of)
    if targets > MAX_TARGETS:
        raise UsageError(f"batch with {targets} targets, at most {MAX_TARGETS}")
    return terms, term_of


def _entries_of(
    items: Sequence[Item], locked: Sequence[LockedBody], terms: tuple[Terms, ...], term_of: bytes
) -> Entries:
    _, digests, commitments, release_checks = zip(*locked, strict=True)
    return Entries(
        # An inclusion path shows hashes of neighbouring entries. Without salts a reader could guess their
        # terms and compare.
        salts=secrets.token_bytes(16 * len(items)),
        record_ids=b"".join([item.record_id for item in items]),
        digests=b"".join(digests),
        commitments=b"".join(commitments),
        release_checks=b"".join(release_checks),
        terms=terms,
        term_of=term_of,
    )


def _check_size(messages: Sequence[tuple[bytes, bytes]]) -> None:
    # The exact size is known only now. Publishers stay below it by batch_bytes_bound.
    size = sum(map(len, chain.from_iterable(messages))) + MESSAGE_OVERHEAD * len(messages)
    if size > MAX_BATCH_BYTES:
        raise UsageError(f"batch of {size} bytes, at most {MAX_BATCH_BYTES}")
