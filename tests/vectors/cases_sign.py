"""Vectors of signing keys, signatures and signed statements."""

from __future__ import annotations

from hashlib import sha256

from broker.crypto.sign import NO_GENESIS
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.manifest import KeySignature, Signed
from broker.wire.statements import (
    ChannelKind,
    ChannelOpened,
    ChannelServices,
    DirectoryClock,
    JoiningRule,
)
from broker.wire.terms import Purpose
from vectors.cases import Case, fails, flip, valid
from vectors.coalition import AUTHORITY, GENESIS, GENESIS_SIGNED, KAS, POLICE, directory_header

__all__ = ["sign_cases", "signed_cases"]

_P, _L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")  # fmt: skip  # noqa: E501
_CONTENT = b"any content"


def _encoded(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


_SMALL_ORDER = {
    "order-1": _encoded(1),
    "order-2": _encoded(_P - 1),
    "order-4": _encoded(0),
    "order-4-negative": _encoded(0, 1),
    "order-8": _encoded(_ORDER_8),
    "order-8-negative": _encoded(_ORDER_8, 1),
    "order-8-other": _encoded(_P - _ORDER_8),
    "order-8-other-negative": _encoded(_P - _ORDER_8, 1),
}
_NON_CANONICAL = {
    "y-is-p": _encoded(_P),
    "y-is-p-negative": _encoded(_P, 1),
    "y-is-p-plus-1": _encoded(_P + 1),
    "y-is-p-plus-18": _encoded(_P + 18),
    "zero-x-negative": _encoded(1, 1),
    "minus-one-negative": _encoded(_P - 1, 1),
    "off-the-curve": _encoded(2),
}


def _one(kind: str = "receipt") -> dict[str, object]:
    signature = POLICE.sign(kind, GENESIS, _CONTENT)
    return {
        "public": POLICE.public,
        "kind": kind,
        "genesis": GENESIS,
        "content": _CONTENT,
        "signature": signature,
    }


def sign_cases() -> list[Case]:
    """Every case of one signature under one key."""
    good = _one()
    signature = POLICE.sign("receipt", GENESIS, _CONTENT)
    scalar = int.from_bytes(signature[32:], "little") + _L
    raw = POLICE.private.sign

    def bad(name: str, what: str, check: str, **changed: object) -> Case:
        return fails(name, what, good | changed, check, "SignatureInvalid")

    cases = [
        valid(f"kind-{kind}", f"a signature as {kind}", _one(kind), {"key_id": POLICE.key_id})
        for kind in ("manifest", "access-request", "receipt")
    ]
    cases += [
        bad("kind-exchanged", "signed as another kind", "signature", kind="manifest"),
        bad("kind-empty", "no kind", "kind", kind="",
            signature=raw(b"ftf-broker/v1/\n" + GENESIS + _CONTENT)),
        bad("kind-capital", "a kind in capitals, correctly signed", "kind", kind="RECEIPT",
            signature=raw(b"ftf-broker/v1/RECEIPT\n" + GENESIS + _CONTENT)),
        bad("kind-line-break", "a kind that ends in a line break, correctly signed", "kind", kind="receipt\n",
            signature=raw(b"ftf-broker/v1/receipt\n\n" + GENESIS + _CONTENT)),
        bad("kind-not-ascii", "a kind that looks like receipt in Cyrillic letters", "kind", kind="rесеipt"),
        bad("genesis-exchanged", "a statement of another coalition", "signature", genesis=bytes(32)),
        bad("content-changed", "a bit of the content changed", "signature", content=flip(_CONTENT)),
        bad("content-short", "the first byte of the content cut", "signature", content=_CONTENT[1:]),
        bad("signature-changed", "a bit of the signature changed", "signature", signature=flip(signature)),
        bad("signature-short", "a signature of 63 bytes", "signature", signature=signature[:-1]),
        bad("signature-long", "a signature of 65 bytes", "signature", signature=signature + b"\0"),
        bad("signature-malleable", "the group's order added to S (RFC 8032, 5.1.7)", "signature",
            signature=signature[:32] + scalar.to_bytes(32, "little")),
        bad("key-exchanged", "a signature by another key", "signature", public=KAS.public),
        bad("key-short", "a public key of 31 bytes", "public-key", public=POLICE.public[:-1]),
    ]  # fmt: skip
    universal = _encoded(1) + bytes(32)  # under the identity this fits every message
    cases += [
        bad(f"key-{name}", "a public key of small order", "public-key", public=key, signature=universal)
        for name, key in _SMALL_ORDER.items()
    ]
    return cases + [
        bad(f"key-{name}", "a public key that is no canonical point", "public-key", public=key)
        for name, key in _NON_CANONICAL.items()
    ]


def signed_cases() -> list[Case]:
    """Every case of a whole signed statement under given keys."""
    founded = decode(Signed, GENESIS_SIGNED)
    keys = [key.public for key in AUTHORITY]
    good: dict[str, object] = {"signed": GENESIS_SIGNED, "genesis": NO_GENESIS, "publics": keys}

    def resigned(kind: str, content: bytes, genesis: bytes = NO_GENESIS) -> bytes:
        signature = AUTHORITY[0].private.sign(b"ftf-broker/v1/" + kind.encode() + b"\n" + genesis + content)
        only = KeySignature(key_id=AUTHORITY[0].key_id, signature=signature)
        return encode(Signed(kind=kind, content=content, signatures=(only,)))

    def bad(name: str, what: str, check: str, error: str, **changed: object) -> Case:
        return fails(name, what, good | changed, check, error)

    twice = Signed(kind="genesis", content=founded.content, signatures=founded.signatures[:1] * 2)
    opened = ChannelOpened(
        header=directory_header("authority"),
        channel="pair",
        number=0,
        kind=ChannelKind.BILATERAL,
        members=("XAA:police", "XBB:police"),
        auditors=(),
        record_types=("JusticeMeasure",),
        purposes=(Purpose.PREVENTION,),
        legal_basis="Treaty, article 7",
        ceiling_days=3650,
        joining=JoiningRule.ALL,
        mandates=(),
        kas=ChannelServices(k=2, services=("kas-1", "kas-2", "kas-3")),
    )
    opening = sign_content(AUTHORITY[0], "channel-opened", GENESIS, encode(opened))
    told = DirectoryClock(header=directory_header("kas"))
    clock = sign_content(KAS, "directory-clock", GENESIS, encode(told))
    bare = Signed(kind="genesis", content=founded.content, signatures=())
    return [
        valid("genesis", "the genesis statement, by two of three keys", good, {"digest": GENESIS}),
        bad("kind-unknown", "a kind outside the closed list, correctly signed", "kind", "FormatError",
            signed=resigned("founding", founded.content)),
        *(
            bad(f"kind-reserved-{kind}", "a kind that a later version fills, correctly signed", "kind",
                "FormatError", signed=resigned(kind, b""))
            for kind in ("sealed-statement", "permission", "acknowledged")
        ),
        valid("channel-opened-services", "an opening with k of n services (reserved)",
            {"signed": encode(opening), "genesis": GENESIS, "publics": keys},
            {"digest": sha256(opening.content).digest()}),
        valid("directory-clock", "the time, by the key access service",
            {"signed": encode(clock), "genesis": GENESIS, "publics": [KAS.public]},
            {"digest": sha256(clock.content).digest()}),
        bad("kind-of-another", "genesis content under the kind agency-admitted, correctly signed", "avro",
            "FormatError", signed=resigned("agency-admitted", founded.content)),
        bad("content-trailing", "a byte behind the content, correctly signed", "avro", "FormatError",
            signed=resigned("genesis", founded.content + b"\0")),
        bad("signed-trailing", "a byte behind the statement", "avro", "FormatError",
            signed=GENESIS_SIGNED + b"\0"),
        bad("genesis-bound", "a genesis statement signed with a genesis hash instead of zeros", "signature",
            "SignatureInvalid", signed=resigned("genesis", founded.content, GENESIS)),
        bad("key-unknown", "signed by a key that is none of those given", "signer", "SignatureInvalid",
            publics=keys[2:]),
        bad("key-twice", "one key's signature twice", "signer", "SignatureInvalid", signed=encode(twice)),
        bad("no-signature", "no signature at all", "signer", "SignatureInvalid", signed=encode(bare)),
        bad("signature-changed", "a bit of a signature changed", "signature", "SignatureInvalid",
            signed=flip(GENESIS_SIGNED, -2)),
    ]  # fmt: skip
