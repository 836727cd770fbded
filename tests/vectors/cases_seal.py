"""Vectors of keys, seals and the release derivation."""

from __future__ import annotations

from hashlib import sha256

from broker.crypto.epoch import half_commitment
from broker.crypto.lock import padded_body, release_share
from broker.crypto.seal import (
    answer_info,
    member_share_info,
    receiving_key_id,
    release_info,
    seal,
    seed_info,
)
from vectors.cases import Case, fails, flip, valid
from vectors.coalition import (
    ACCESS_SEED,
    CHANNEL,
    CONTENT_SEED,
    EPOCH,
    GENESIS,
    HALVES,
    INTAKE,
    METADATA_SEED,
    POLICE_RECEIVING,
    epoch_keys,
)

__all__ = ["key_cases", "release_cases", "seal_cases"]

_CONTEXT, _DIGEST, _SECRET = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
_MLKEM, _X25519 = b"\xb2" * 64, b"\xb2" * 32
_USES: dict[str, dict[str, object]] = {
    "member-share": {"context": _CONTEXT},
    "release": {"context": _CONTEXT, "intake_key_id": INTAKE.key_id},
    "seed": {
        "genesis": GENESIS,
        "channel": "xaa-xbb",
        "epoch": 3,
        "key": "content",
        "recipient_key_id": POLICE_RECEIVING.key_id,
    },
    "answer": {"request_digest": _DIGEST, "answer_digest": sha256(_SECRET).digest()},
}
_INFO = {
    "member-share": member_share_info(_CONTEXT),
    "release": release_info(_CONTEXT, INTAKE.key_id),
    "seed": seed_info(GENESIS, "xaa-xbb", 3, "content", POLICE_RECEIVING.key_id),
    "answer": answer_info(_DIGEST, sha256(_SECRET).digest()),
}
_CHANGED: list[tuple[str, str, str, object]] = [
    ("member-share", "context", "another batch", b"\x12" * 32),
    ("release", "context", "another batch", b"\x12" * 32),
    ("release", "intake_key_id", "another intake key", bytes(32)),
    ("seed", "genesis", "another coalition", bytes(32)),
    ("seed", "channel", "another channel", "xaa-xcc"),
    ("seed", "epoch", "another epoch", 4),
    ("seed", "key", "another of the epoch's seeds", "metadata"),
    ("seed", "recipient_key_id", "another recipient", bytes(32)),
    ("answer", "request_digest", "another request", b"\x23" * 32),
    ("answer", "answer_digest", "the hash of another answer", b"\x23" * 32),
]


def seal_cases() -> list[Case]:
    """Every case of one seal to one key."""
    sealed = {use: seal(POLICE_RECEIVING.public, _SECRET, info) for use, info in _INFO.items()}

    def given(use: str, **changed: object) -> dict[str, object]:
        case = {"mlkem_seed": _MLKEM, "x25519": _X25519, "use": use, "fields": _USES[use]}
        return case | {"sealed": sealed[use]} | changed

    def bad(name: str, what: str, use: str = "member-share", **changed: object) -> Case:
        return fails(name, what, given(use, **changed), "seal", "OpenError")

    cases = [valid(use, f"sealed as {use}", given(use), {"plaintext": _SECRET}) for use in _USES]
    cases += [
        bad(f"{use}-{field.replace('_', '-')}", what, use, fields=_USES[use] | {field: value})
        for use, field, what, value in _CHANGED
    ]
    share = sealed["member-share"]
    return [
        *cases,
        bad("use-exchanged", "a member share taken for an answer whose digest is the context",
            use="answer", sealed=share, fields={"request_digest": _CONTEXT, "answer_digest": b""}),
        bad("empty", "no bytes", sealed=b""),
        bad("no-ciphertext", "an encapsulation alone", sealed=share[:1120]),
        bad("short", "one byte less than the least seal", sealed=share[:1135]),
        bad("truncated", "the last byte cut", sealed=share[:-1]),
        bad("trailing", "a byte behind the seal", sealed=share + b"\0"),
        bad("mlkem-changed", "a bit of the ML-KEM ciphertext changed", sealed=flip(share, 0)),
        bad("x25519-changed", "a bit of the X25519 share changed", sealed=flip(share, 1088)),
        bad("x25519-small-order", "an X25519 share of small order",
            sealed=share[:1088] + bytes(32) + share[1120:]),
        bad("ciphertext-changed", "a bit of the ciphertext changed", sealed=flip(share, 1120)),
        bad("tag-changed", "a bit of the authentication tag changed", sealed=flip(share)),
        bad("recipient-exchanged", "opened with another key", mlkem_seed=b"\xd1" * 64, x25519=b"\xd1" * 32),
    ]  # fmt: skip


def key_cases() -> list[Case]:
    """Every case of a public key, its id, and an epoch's keys from the halves of their seed."""
    public = POLICE_RECEIVING.public
    seeds = {"metadata": METADATA_SEED, "content": CONTENT_SEED, "access": ACCESS_SEED}
    cases = [_epoch_case(use, seed) for use, seed in seeds.items()]
    cases += [
        valid("receiving", "a hybrid public key", {"public": public}, {"key_id": receiving_key_id(public)}),
        fails("half-short", "a half of 31 bytes", _halves("metadata") | {"halves": [bytes(31), bytes(32)]},
              "half-length", "OpenError"),
        fails("half-long", "a half of 33 bytes", _halves("metadata") | {"halves": [bytes(32), bytes(33)]},
              "half-length", "OpenError"),
        fails("public-short", "a hybrid public key of 1215 bytes", {"public": public[:-1]}, "public-key",
              "OpenError"),
        fails("public-long", "a hybrid public key of 1217 bytes", {"public": public + b"\0"}, "public-key",
              "OpenError"),
        fails("mlkem-modulus", "an ML-KEM coefficient that is not reduced (FIPS 203, 7.2)",
              {"public": b"\xff" * 1152 + public[1152:]}, "public-key", "OpenError"),
    ]  # fmt: skip
    cases += [
        fails(f"x25519-small-order-{name}", "an X25519 half of small order (RFC 7748, 6.1)",
              {"public": public[:1184] + half.to_bytes(32, "little")}, "public-key", "OpenError")
        for name, half in (("zero", 0), ("one", 1), ("p-minus-one", 2**255 - 20), ("p", 2**255 - 19))
    ]  # fmt: skip
    return cases


_FRESH = b"\x44" * 32
_PLAINTEXTS = [padded_body(b"first body"), padded_body(b"")]


def _halves(use: str) -> dict[str, object]:
    return {
        "genesis": GENESIS,
        "channel": CHANNEL,
        "epoch": EPOCH,
        "use": use,
        "halves": list(HALVES[use]),
        "fresh": _FRESH,
        "plaintexts": _PLAINTEXTS,
        "context": _CONTEXT,
    }


def _epoch_case(use: str, seed: bytes) -> Case:
    keys = epoch_keys(seed)
    output = {
        "commitments": [half_commitment(GENESIS, half) for half in HALVES[use]],
        "seed": seed,
        "manifest_id": keys.manifest_id(_FRESH, _PLAINTEXTS),
        "member_share": keys.member_share(_CONTEXT),
    }
    return valid(f"epoch-{use}", "an epoch's seed and what follows from it", _halves(use), output)


def release_cases() -> list[Case]:
    """Every case of the release shares that a release secret gives."""

    def given(**changed: object) -> dict[str, object]:
        return {"context": _CONTEXT, "release_secret": _SECRET, "index": 0} | changed

    cases = [
        valid(f"index-{index}", "the release share of one record", given(index=index),
              {"release_share": release_share(_CONTEXT, _SECRET, index)})
        for index in (0, 1, 255)
    ]  # fmt: skip
    return [
        *cases,
        fails("secret-short", "a release secret of 31 bytes", given(release_secret=bytes(31)), "share-length",
              "OpenError"),
        fails("secret-long", "a release secret with a zero behind it, for HMAC the same key",
              given(release_secret=_SECRET + b"\0"), "share-length", "OpenError"),
        fails("index-256", "an index beyond the last", given(index=256), "index", "FormatError"),
        fails("index-negative", "an index below the first", given(index=-1), "index", "FormatError"),
    ]  # fmt: skip
