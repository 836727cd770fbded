"""A fixed coalition whose private keys are one byte repeated, for vectors and tests; never for use."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.crypto.hkdf import hkdf_sha256
from broker.crypto.seal import ReceivingKey, epoch_key
from broker.crypto.sign import NO_GENESIS, SigningKey
from broker.wire.batch import Intake
from broker.wire.encoding import encode
from broker.wire.envelope import EpochAccess
from broker.wire.log_leaf import message_leaf
from broker.wire.manifest import Header, KeySignature, Signed
from broker.wire.statements import Genesis
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, RecordTerms, Tlp

__all__ = [
    "ACCESS",
    "ACCESS_SEED",
    "AUTHORITY",
    "CONTENT",
    "CONTENT_SEED",
    "EPOCH",
    "GENESIS",
    "GENESIS_APPENDED_AT",
    "GENESIS_ROOT",
    "GENESIS_SIGNED",
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
    "admit_key",
    "directory_header",
    "epoch_access",
    "header",
    "intake_of",
    "receiving",
    "record_terms",
    "signing",
]

ZERO = bytes(32)
TOPIC, PARTITION, EPOCH, ISSUER = "returns", 7, 3, "XAA:police"


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
METADATA_SEED, CONTENT_SEED, ACCESS_SEED = b"\xc1" * 32, b"\xc2" * 32, b"\xc3" * 32
METADATA, CONTENT, ACCESS = epoch_key(METADATA_SEED), epoch_key(CONTENT_SEED), epoch_key(ACCESS_SEED)
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


def admit_key(seed: bytes, genesis: bytes = GENESIS) -> bytes:
    """The admit key of an epoch seed."""
    return hkdf_sha256(seed, salt=genesis, info=b"ftf-broker/v1/admit")


def epoch_access(seed: bytes = METADATA_SEED, genesis: bytes = GENESIS) -> EpochAccess:
    """What a publisher knows of an epoch."""
    return EpochAccess(public=epoch_key(seed).public, admit=admit_key(seed, genesis))


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
