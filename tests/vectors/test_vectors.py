"""The broker reads every vector as the vectors say."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.avro.codec import compile_schema
from broker.avro.schema_file import protocol_schema
from broker.crypto.epoch import EpochKeys, epoch_seed, half_commitment
from broker.crypto.lock import body_key, check_release_share, context_of, release_share, unlock
from broker.crypto.log_tree import LogTree
from broker.crypto.merkle import verify_inclusion
from broker.crypto.seal import (
    ReceivingKey,
    answer_info,
    check_receiving_public,
    member_share_info,
    open_sealed,
    receiving_key_id,
    release_info,
    seed_info,
)
from broker.crypto.sign import signing_key_id, verify
from broker.errors import BrokerError, FormatError, OpenError, SignatureInvalid
from broker.services.kas.custody import open_value
from broker.services.kas.keystore import StorageKey
from broker.wire.access import AccessDetails
from broker.wire.encoding import decode, decode_content, encode
from broker.wire.envelope import open_manifest, parse_envelope
from broker.wire.log_leaf import HOLE, message_leaf
from broker.wire.manifest import Signed

HERE = Path(__file__).parent
TEXT = frozenset(("kind", "topic", "channel", "issuer", "use"))
Given = dict[str, Any]  # JSON: each reader below knows what its area holds


def _load() -> list[tuple[str, Given]]:
    files = [json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))]
    return [(file["area"], case) for file in files if "area" in file for case in file["cases"]]


VECTORS = _load()


def _bytes(given: Given) -> Given:
    def convert(name: str, value: object) -> object:
        match value:
            case str() if name not in TEXT:
                return bytes.fromhex(value)
            case list():
                return [convert("", item) for item in value]
        return value

    return {name: convert(name, value) for name, value in given.items()}


def _avro(given: Given) -> Given:
    schema = protocol_schema(given["type"]) if "type" in given else given["schema"]
    return {"value": compile_schema(schema).decode(bytes.fromhex(given["data"]))}


def _sign(given: Given) -> Given:
    case = _bytes(given)
    verify(case["public"], case["kind"], case["genesis"], case["content"], case["signature"])
    return {"key_id": signing_key_id(case["public"])}


def _signed(given: Given) -> Given:
    case = _bytes(given)
    signed = decode(Signed, case["signed"])
    decode_content(signed)
    known = {signing_key_id(public): public for public in case["publics"]}
    ids = [signature.key_id for signature in signed.signatures]
    if not ids or len(set(ids)) < len(ids) or not known.keys() >= set(ids):  # the directory's rule
        raise SignatureInvalid("not signed by distinct keys that may")
    for signature in signed.signatures:
        verify(known[signature.key_id], signed.kind, case["genesis"], signed.content, signature.signature)
    return {"digest": sha256(signed.content).digest()}


def _keys(given: Given) -> Given:
    case = _bytes(given)
    if "public" in case:
        return {"key_id": receiving_key_id(check_receiving_public(case["public"]))}
    genesis, halves = case["genesis"], case["halves"]
    commitments = [half_commitment(genesis, half) for half in halves]
    seed = epoch_seed(genesis, case["channel"], case["epoch"], case["use"], halves)
    keys = EpochKeys.of(seed, genesis)
    return {
        "commitments": [commitment.hex() for commitment in commitments],
        "seed": seed,
        "manifest_id": keys.manifest_id(case["fresh"], case["plaintexts"]),
        "member_share": keys.member_share(case["context"]),
    }


def _info(use: str, fields: Given) -> bytes:
    key = fields.get("key")
    case = _bytes({name: value for name, value in fields.items() if name != "key"})
    match use:
        case "member-share":
            return member_share_info(case["context"])
        case "release":
            return release_info(case["context"], case["intake_key_id"])
        case "seed":
            return seed_info(
                case["genesis"], case["channel"], case["epoch"], str(key), case["recipient_key_id"]
            )
        case "answer":
            return answer_info(case["request_digest"], case["answer_digest"])
    raise ValueError(use)


def _seal(given: Given) -> Given:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(given["mlkem_seed"]))
    key = ReceivingKey.of(mlkem, X25519PrivateKey.from_private_bytes(bytes.fromhex(given["x25519"])))
    info = _info(given["use"], given["fields"])
    return {"plaintext": open_sealed(key, bytes.fromhex(given["sealed"]), info)}


def _release(given: Given) -> Given:
    case = _bytes(given)
    return {"release_share": release_share(case["context"], case["release_secret"], case["index"])}


def _lock(given: Given) -> Given:
    case = _bytes(given)
    place = (case[name] for name in ("genesis", "topic", "partition", "epoch", "issuer", "manifest_id"))
    context = context_of(*place)
    index = case["index"]
    if sha256(case["value"]).digest() != case["digest"]:  # the reader of a partition's rule
        raise FormatError("not the body that the entry names")
    share = check_release_share(context, index, case["release_share"], case["release_check"])
    key = body_key(context, case["member_share"], index, share)
    return {"body": unlock(key, index, case["value"], case["commitment"]), "context": context}


def _manifest(given: Given) -> Given:
    case = _bytes(given)
    genesis = case["genesis"]
    topic = case["topic"]
    partition = case["partition"]
    envelope = parse_envelope(case["key"], case["value"].ljust(case.get("fill_to", 0), b"\0"))
    if envelope is None:
        raise FormatError("not a manifest message")
    opened = open_manifest(
        envelope, topic=topic, partition=partition, keys=EpochKeys.of(case["seed"], genesis)
    )
    if opened is None:  # the reader of a partition's rule
        raise OpenError("not sealed for this place")
    (signature,) = opened.signed.signatures
    if signature.key_id != signing_key_id(case["signer"]):  # the directory's rule
        raise SignatureInvalid("not the issuer's key")
    verify(case["signer"], opened.signed.kind, genesis, opened.signed.content, signature.signature)
    manifest = opened.manifest
    return {
        "batch_id": opened.batch_id,
        "count": manifest.count,
        "entries_root": manifest.entries_root,
    }


def _merkle(given: Given) -> Given:
    case = _bytes(given)
    verify_inclusion(case["entry"], case["index"], case["count"], case["path"], case["root"])
    return {}


def _tree(given: Given) -> Given:
    tree = LogTree()
    for message in given["messages"]:
        if message is None:
            tree.skip(HOLE, 1)
            continue
        key, value = (
            None if part is None else bytes.fromhex(part) for part in (message["key"], message["value"])
        )
        digest = None if value is None else sha256(value).digest()
        tree.add(message_leaf(message["appended_at"] * 1000, key, digest))
    if tree.root != bytes.fromhex(given["root"]):
        raise OpenError("the messages have another root")
    return {}


def _details(given: Given) -> Given:
    case = _bytes(given)
    if sha256(b"ftf-broker/v1/details" + case["details"]).digest() != case["commitment"]:
        raise OpenError("details are not what was committed to")
    decode(AccessDetails, case["details"])
    return {}


def _held(given: Given) -> Given:
    case = _bytes(given)
    key = StorageKey(0, case["value"][:32], case["storage_key"])
    return {"held": encode(open_value(key, case["batch_id"], case["value"]))}


READERS: dict[str, Callable[[Given], Given]] = {
    "avro": _avro,
    "sign": _sign,
    "signed": _signed,
    "keys": _keys,
    "seal": _seal,
    "release": _release,
    "lock": _lock,
    "held": _held,
    "manifest": _manifest,
    "merkle": _merkle,
    "tree": _tree,
    "details": _details,
}


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


@pytest.mark.parametrize(("area", "case"), VECTORS, ids=[f"{area}-{case['name']}" for area, case in VECTORS])
def test_vector(area: str, case: Given) -> None:
    """The broker accepts each valid case, and refuses each other case with the named error."""
    if case["expect"] == "valid":
        found = {name: _hex(value) for name, value in READERS[area](case["input"]).items()}
        assert {name: found[name] for name in case.get("output", {})} == case.get("output", {})
        return
    with pytest.raises(BrokerError) as raised:
        READERS[area](case["input"])
    assert type(raised.value).__name__ == case["error"]


def test_every_area_has_both() -> None:
    """Every area is read, with valid and with invalid cases, and each case has a name of its own."""
    for area in READERS:
        cases = [case for found, case in VECTORS if found == area]
        assert {case["expect"] == "valid" for case in cases} == {True, False}, area
        assert len({case["name"] for case in cases}) == len(cases), area
    assert {area for area, _ in VECTORS} == READERS.keys()
