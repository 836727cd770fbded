"""A fixed coalition whose private keys are one byte repeated, for vectors and tests; never for use."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.crypto.epoch import EpochKeys, epoch_seed
from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import NO_GENESIS, SigningKey
from broker.wire.batch import Intake
from broker.wire.encoding import encode
from broker.wire.log_leaf import message_leaf
from broker.wire.manifest import Header, KeySignature, Signed
from broker.wire.statements import Genesis
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Tlp

__all__ = [
    "ACCESS",
    "ACCESS_SEED",
    "AUTHORITY",
    "CHANNEL",
    "CONTENT",
    "CONTENT_SEED",
    "EPOCH",
    "GENESIS",
    "GENESIS_APPENDED_AT",
    "GENESIS_ROOT",
    "GENESIS_SIGNED",
    "HALVES",
    "INTAKE",
    "ISSUER",
    "KAS",
    "METADATA",
    "METADATA_SEED",
    "PARTITION",
    "POLICE",
    "POLICE_RECEIVING",
    "TOPIC",
    "ZERO",
    "directory_header",
    "epoch_keys",
    "header",
    "intake_of",
    "receiving",
    "record_terms",
    "signing",
]

ZERO = bytes(32)
TOPIC, PARTITION, EPOCH, ISSUER = "returns", 7, 3, "XAA:police"
CHANNEL = "xaa-xbb"
"""The channel whose number is PARTITION."""


def signing(byte: int) -> SigningKey:
    """The signing key whose Ed25519 private key repeats this byte 32 times."""
    return SigningKey.of(Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32))


def receiving(byte: int) -> ReceivingKey:
    """The receiving key whose ML-KEM seed repeats this byte 64 times, and whose X25519 key 32 times."""
    return ReceivingKey.of(
        MLKEM768PrivateKey.from_seed_bytes(bytes([byte]) * 64),
        X25519PrivateKey.from_private_bytes(bytes([byte]) * 32),
    )


AUTHORITY = (signing(0xA1), signing(0xA2), signing(0xA3))
POLICE, POLICE_RECEIVING = signing(0xB1), receiving(0xB2)
HALVES = {
    "metadata": (b"\xc1" * 32, b"\xc2" * 32),
    "content": (b"\xc3" * 32, b"\xc4" * 32),
    "access": (b"\xc5" * 32,),
}
"""The halves of the epoch's seeds, the member's first; the access seed has the service's alone."""
INTAKE, KAS = receiving(0xD1), signing(0xD2)

_FOUNDED = Genesis(
    header=Header(
        topic="directory",
        partition=0,
        epoch=-1,
        issuer="authority",
        issued_at=1_767_225_600_000_000,
        directory_size=0,
        directory_root=ZERO,
        stream=bytes(16),
        sequence=0,
        previous=ZERO,
    ),
    coalition="Example",
    authority_keys=tuple(key.public for key in AUTHORITY),
    threshold=2,
)
_CONTENT = encode(_FOUNDED)
GENESIS = sha256(_CONTENT).digest()
GENESIS_SIGNED = encode(
    Signed(
        kind="genesis",
        content=_CONTENT,
        signatures=tuple(
            KeySignature(key_id=key.key_id, signature=key.sign("genesis", NO_GENESIS, _CONTENT))
            for key in AUTHORITY[:2]
        ),
    )
)
GENESIS_APPENDED_AT = 1_767_225_600_123
"""In milliseconds."""
GENESIS_ROOT = message_leaf(GENESIS_APPENDED_AT * 1000, b"", sha256(GENESIS_SIGNED).digest())


METADATA_SEED, CONTENT_SEED, ACCESS_SEED = (
    epoch_seed(GENESIS, CHANNEL, EPOCH, use, halves) for use, halves in HALVES.items()
)


def epoch_keys(seed: bytes, genesis: bytes = GENESIS) -> EpochKeys:
    """The keys that follow from a seed."""
    return EpochKeys.of(seed, genesis)


METADATA, CONTENT, ACCESS = map(epoch_keys, (METADATA_SEED, CONTENT_SEED, ACCESS_SEED))


def directory_header(issuer: str) -> Header:
    """The header of a statement of the directory behind the genesis."""
    return Header(
        topic="directory",
        partition=0,
        epoch=-1,
        issuer=issuer,
        issued_at=1_767_312_000_000_000,
        directory_size=1,
        directory_root=GENESIS_ROOT,
        stream=bytes(16),
        sequence=0,
        previous=ZERO,
    )


def intake_of(key: ReceivingKey = INTAKE) -> Intake:
    """The public side of an intake key."""
    return Intake(key_id=key.key_id, public=key.public)


def header(
    *, topic: str = TOPIC, partition: int = PARTITION, epoch: int = EPOCH, issuer: str = ISSUER
) -> Header:
    """The first header of a stream."""
    return Header(
        topic=topic,
        partition=partition,
        epoch=epoch,
        issuer=issuer,
        issued_at=1_767_312_000_000_000,
        directory_size=1,
        directory_root=GENESIS_ROOT,
        stream=b"\xe1" * 16,
        sequence=0,
        previous=ZERO,
    )


def record_terms(*, purpose: Purpose = Purpose.INVESTIGATION, erase_by: int = 21_915) -> RecordTerms:
    """The terms of a new record."""
    return RecordTerms(
        action=Action.NEW,
        targets=(),
        handling=Handling(codes=(HandlingCode.H1,), tlp=Tlp.AMBER_STRICT, releasable_to=()),
        purpose=purpose,
        review_by=20_819,
        erase_by=erase_by,
    )
