"""Vectors of locked bodies, inclusion proofs and the commitment to access details."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto.hkdf import Expand
from broker.crypto.lock import body_key, context_of, lock_bodies, release_share
from broker.crypto.merkle import inclusion_path, leaf_hash, tree_hash
from broker.services.kas.custody import seal_held
from broker.services.kas.keystore import StorageKey
from broker.wire.access import AccessDetails, HeldRelease, ReleaseShare
from broker.wire.encoding import encode
from vectors.cases import Case, fails, flip, valid
from vectors.coalition import EPOCH, GENESIS, ISSUER, PARTITION, TOPIC

__all__ = ["details_cases", "held_cases", "lock_cases", "merkle_cases"]

_ID, _MEMBER, _SECRET = b"\x41" * 16, b"\x42" * 32, b"\x43" * 32
_PLACE: dict[str, object] = {
    "genesis": GENESIS,
    "topic": TOPIC,
    "partition": PARTITION,
    "epoch": EPOCH,
    "issuer": ISSUER,
    "manifest_id": _ID,
}
_CONTEXT = context_of(GENESIS, TOPIC, PARTITION, EPOCH, ISSUER, _ID)


def _locked(bodies: list[bytes], index: int) -> dict[str, object]:
    body = lock_bodies(_CONTEXT, _MEMBER, _SECRET, bodies)[index]
    return _PLACE | {
        "index": index,
        "member_share": _MEMBER,
        "release_share": release_share(_CONTEXT, _SECRET, index),
        "release_check": body.release_check,
        "digest": body.digest,
        "commitment": body.commitment,
        "value": body.value,
    }


def _relocked(plaintext: bytes) -> dict[str, object]:
    """Lock any plaintext at all with a commitment that fits, as a malicious issuer can."""
    key = body_key(_CONTEXT, _MEMBER, 0, release_share(_CONTEXT, _SECRET, 0))
    value = b"\x02" + AESGCM(key).encrypt(bytes(12), plaintext, None)
    commitment = sha256(b"ftf-broker/v1/commitment" + key + plaintext).digest()
    return {"value": value, "digest": sha256(value).digest(), "commitment": commitment}


def _check(context: bytes, share: bytes, index: int = 0) -> bytes:
    return sha256(b"ftf-broker/v1/release-check" + context + index.to_bytes(4, "big") + share).digest()


def lock_cases() -> list[Case]:
    """Every case of one locked body."""
    bodies = [b"first body", b"", b"x" * 508, b"x" * 509, b"x" * 32768]
    good, second = _locked(bodies, 0), _locked(bodies, 1)
    names = ("first", "empty", "block-full", "block-over", "largest")
    cases = [
        valid(name, f"a body of {len(body)} bytes", _locked(bodies, i), {"body": body, "context": _CONTEXT})
        for i, (name, body) in enumerate(zip(names, bodies, strict=True))
    ]

    def bad(name: str, what: str, check: str, error: str = "OpenError", **changed: object) -> Case:
        return fails(name, what, good | changed, check, error)

    def padded(name: str, what: str, plaintext: bytes) -> Case:
        return bad(name, what, "body-padding", "FormatError", **_relocked(plaintext))

    other = context_of(GENESIS, TOPIC, PARTITION, EPOCH, "XBB:police", _ID)
    theirs = release_share(other, _SECRET, 0)
    value = bytes.fromhex(str(cases[0]["input"]["value"]))  # type: ignore[index]
    short, long = b"\x02" + bytes(527), b"\x02" + bytes(33_297)
    first = (10).to_bytes(4, "big") + b"first body"
    return [
        *cases,
        bad("share-exchanged", "the release share of the next record", "release-check",
            release_share=second["release_share"]),
        bad("share-short", "a release share of 31 bytes", "share-length", release_share=bytes(31)),
        bad("share-of-other-secret", "a release secret that the issuer's check does not fit", "release-check",
            release_share=release_share(_CONTEXT, b"\x44" * 32, 0)),
        bad("check-changed", "a release check that nothing fits", "release-check", release_check=bytes(32)),
        bad("member-share-wrong", "another member share", "unlock", member_share=b"\x44" * 32),
        bad("member-share-long", "a member share of 33 bytes", "share-length", member_share=_MEMBER + b"\0"),
        bad("copied-manifest-id", "another member's batch with the same manifest_id and secrets: its share",
            "unlock", issuer="XBB:police", release_share=theirs, release_check=_check(other, theirs)),
        bad("moved-topic", "the same batch in another topic", "release-check", topic="relocation"),
        bad("moved-partition", "the same batch in another partition", "release-check", partition=8),
        bad("moved-epoch", "the same batch in another epoch", "release-check", epoch=4),
        bad("other-coalition", "the same batch in another coalition", "release-check", genesis=bytes(32)),
        bad("epoch-negative", "a header whose epoch is -1", "context", "FormatError", epoch=-1),
        bad("partition-negative", "a header whose partition is -1", "context", "FormatError", partition=-1),
        bad("index-256", "an index beyond the last", "index", "FormatError", index=256),
        bad("digest-changed", "a message that is not the body which the entry names", "digest", "FormatError",
            digest=bytes(32)),
        bad("ciphertext-changed", "a bit of the ciphertext changed, and named so by the entry", "unlock",
            value=flip(value), digest=sha256(flip(value)).digest()),
        bad("body-exchanged", "the body of the next record", "unlock", value=second["value"],
            digest=second["digest"]),
        bad("commitment-changed", "a commitment to another text", "commitment", commitment=bytes(32)),
        bad("form-kind", "a value that begins with 01", "body-form", "FormatError", value=b"\x01" + value[1:],
            digest=sha256(b"\x01" + value[1:]).digest()),
        bad("form-empty", "a value of no bytes", "body-form", "FormatError", value=b"",
            digest=sha256(b"").digest()),
        bad("form-short", "a value shorter than one block", "body-form", "FormatError", value=short,
            digest=sha256(short).digest()),
        bad("form-long", "a value longer than the largest body", "body-form", "FormatError", value=long,
            digest=sha256(long).digest()),
        padded("padding-not-zero", "a one at the end of the padding", first + bytes(497) + b"\x01"),
        padded("padding-too-long", "a block more than is needed", first + bytes(498 + 512)),
        padded("padding-no-block", "a plaintext of 513 bytes", first + bytes(499)),
        padded("padding-length-beyond", "a length beyond the end", (509).to_bytes(4, "big") + bytes(508)),
        padded("padding-length-huge", "a length of 4 GB", b"\xff" * 4 + bytes(508)),
        padded("padding-body-too-large", "a body of 32,769 bytes that still fits the last block",
               (32_769).to_bytes(4, "big") + b"x" * 32_769 + bytes(507)),
    ]  # fmt: skip


def merkle_cases() -> list[Case]:
    """Every case of an entry, its path and a root."""
    cases = []
    for count, index in ((1, 0), (2, 1), (3, 2), (5, 4), (7, 3), (8, 0), (255, 254), (256, 100)):
        entries = [bytes([i]) * 5 for i in range(count)]
        path = inclusion_path([leaf_hash(entry) for entry in entries], index)
        given = {"entry": entries[index], "index": index, "count": count, "path": list(path)}
        what = f"leaf {index} of {count}"
        cases.append(valid(f"{index}-of-{count}", what, given | {"root": tree_hash(entries)}))
    entries = [b"a", b"b", b"c", b"d", b"e"]
    hashes = [leaf_hash(entry) for entry in entries]
    nodes, root = list(inclusion_path(hashes, 1)), tree_hash(entries)
    good: dict[str, object] = {"entry": b"b", "index": 1, "count": 5, "path": nodes, "root": root}
    last = list(inclusion_path(hashes, 4))

    def bad(name: str, what: str, **changed: object) -> Case:
        return fails(name, what, good | changed, "inclusion", "OpenError")

    return [
        *cases,
        bad("entry-exchanged", "another entry", entry=b"c"),
        bad("index-exchanged", "another place", index=0),
        bad("index-beyond", "a place beyond the tree", index=5),
        bad("index-negative", "a place below the tree", index=-1),
        bad("count-zero", "an empty tree", index=0, count=0),
        bad("count-other", "a tree of another size, whose paths have another length", count=4),
        bad("path-short", "a path without its last node", path=nodes[:-1]),
        bad("path-long", "a path with a node too many", path=[*nodes, root]),
        bad("path-order", "a path whose nodes are exchanged", path=nodes[::-1]),
        bad("path-empty", "no path", path=[]),
        bad("root-exchanged", "another root", root=bytes(32)),
        bad("inner-node", "an inner node passed off as an entry", entry=hashes[0] + hashes[1], index=0,
            count=3, path=nodes[1:]),
        bad("last-leaf-elsewhere", "the odd last leaf in another place", entry=b"e", index=3, path=last),
    ]  # fmt: skip


def details_cases() -> list[Case]:
    """Every case of access details and the commitment to them."""
    details = AccessDetails(
        blind=b"\x51" * 32,
        person="XAA-0042",
        role="investigator",
        legal_basis="XAA:POLICE-ACT-7/2",
        case_reference="XAA-2026-17",
        justification="border check of 2026-01-02",
        recipients=(),
    )
    data = encode(details)
    commitment = sha256(b"ftf-broker/v1/details" + data).digest()
    good: dict[str, object] = {"details": data, "commitment": commitment}

    def bad(name: str, what: str, check: str, error: str, **changed: object) -> Case:
        return fails(name, what, good | changed, check, error)

    trailing = data + b"\0"
    return [
        valid("details", "the details that the request committed to", good),
        bad("blind-changed", "another blind", "commitment", "OpenError", details=flip(data, 0)),
        bad("person-changed", "another person", "commitment", "OpenError",
            details=data.replace(b"XAA-0042", b"XAA-0043")),
        bad("commitment-unlabelled", "a commitment without its label", "commitment", "OpenError",
            commitment=sha256(data).digest()),
        bad("trailing", "a byte behind the details, which the commitment includes", "avro", "FormatError",
            details=trailing, commitment=sha256(b"ftf-broker/v1/details" + trailing).digest()),
    ]  # fmt: skip


def held_cases() -> list[Case]:
    """Every case of a value of ftf.keys."""
    key, batch = StorageKey(0, b"\x45" * 32, b"\x46" * 32), b"\x47" * 32
    whole = HeldRelease(release_secret=_SECRET, shares=())
    rest = HeldRelease(release_secret=None, shares=(ReleaseShare(index=1, share=_MEMBER),))
    value = seal_held(key, batch, whole)

    def given(**changed: object) -> dict[str, object]:
        return {"storage_key": key.key, "batch_id": batch, "value": value} | changed

    def bad(name: str, what: str, **changed: object) -> Case:
        return fails(name, what, given(**changed), "seal", "OpenError")

    other = seal_held(key, batch, rest)
    # Sealed by hand under the nonce of another text: two texts under one key and nonce give both away.
    batch_key = Expand(key.key).block(b"ftf-broker/v1/held" + batch)
    again = value[:44] + AESGCM(batch_key).encrypt(value[32:44], encode(rest), None)
    return [
        valid("secret", "a release secret", given(), {"held": encode(whole)}),
        valid("shares", "the shares that are left", given(value=other), {"held": encode(rest)}),
        bad("another-batch", "a value of another batch", batch_id=b"\x48" * 32),
        bad("another-key", "a value under another storage key", storage_key=b"\x48" * 32),
        bad("altered", "a bit of the tag changed", value=flip(value)),
        bad("nonce-changed", "a bit of the nonce changed", value=flip(value, 32)),
        fails("nonce-of-another-text", "sealed under the nonce of another text", given(value=again), "nonce",
              "OpenError"),
    ]  # fmt: skip
