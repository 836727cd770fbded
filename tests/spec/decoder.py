"""A second reader, written from ``schemas/README.md`` alone: if it agrees, the specification suffices.

It imports the standard library, `cryptography` and `fastavro`, and nothing of the broker. It is written to
be read beside the specification, not to be fast: trees are recursive, points are multiplied out.

    decoder.py VECTORS.json ...     judges files of vectors and says where it disagrees
"""

from __future__ import annotations

import hmac
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import fastavro
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Invalid", "judge", "read_example"]

SCHEMAS = Path(__file__).parents[2] / "schemas" / "protocol"
LABEL = b"ftf-broker/v1/"
ZERO = bytes(32)
MAX_BODY, MAX_VALUE = 32_768, 1_000_000

Json = dict[str, Any]  # what a JSON file or fastavro says; the checks below are what makes it more


class Invalid(Exception):
    """A check of the specification failed; its name is the message."""


def fail(check: str) -> NoReturn:
    raise Invalid(check)


def h(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def u32(number: int, check: str) -> bytes:
    if not 0 <= number < 2**32:
        fail(check)
    return number.to_bytes(4, "big")


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes) -> bytes:
    return hmac.digest(prk, info + b"\x01", "sha256")


# Avro


@cache
def _types() -> dict[str, Json]:
    found = [json.loads(path.read_text()) for path in (SCHEMAS / "types").glob("*.avsc")]
    return {f"{schema['namespace']}.{schema['name']}": schema for schema in found}


def _self_contained(schema: Any, seen: set[str]) -> Any:
    """Replace the first mention of each shared type by its definition, and leave logical types out."""
    if isinstance(schema, list):
        return [_self_contained(branch, seen) for branch in schema]
    if isinstance(schema, str):
        if schema in seen or schema not in _types():
            return schema
        seen.add(schema)
        return _self_contained(_types()[schema], seen)
    inlined = {key: value for key, value in schema.items() if key != "logicalType"}
    if inlined["type"] == "record":
        seen.add(f"{inlined.get('namespace', '')}.{inlined['name']}")
        fields = [field | {"type": _self_contained(field["type"], seen)} for field in inlined["fields"]]
        return inlined | {"fields": fields}
    if inlined["type"] == "array":
        return inlined | {"items": _self_contained(inlined["items"], seen)}
    return inlined if inlined["type"] in ("enum", "fixed") else inlined["type"]


@cache
def protocol(name: str) -> Any:
    """The schema of a protocol type."""
    path = SCHEMAS / f"{name}.avsc"
    schema = json.loads(path.read_text()) if path.exists() else f"ftf.protocol.{name}"
    return _self_contained(schema, set())


def canonical(schema: Any) -> bytes:
    return json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(schema: Any, data: bytes) -> Any:
    """Strict Avro: all bytes consumed, and encoding the value again gives the same bytes."""
    stream = io.BytesIO(data)
    try:
        parsed = fastavro.parse_schema(schema)
        value = fastavro.schemaless_reader(
            stream, parsed, None, return_record_name=True, return_record_name_override=True
        )
        again = io.BytesIO()
        if stream.read(1) or not fastavro.validate(value, parsed, raise_errors=False, strict=True):
            fail("avro")
        fastavro.schemaless_writer(again, parsed, value, strict=True)
    except Exception:  # noqa: BLE001 - fastavro raises a dozen kinds of them on hostile bytes
        fail("avro")
    if again.getvalue() != data:
        fail("avro")
    return value


def encode(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value, strict=True)
    return stream.getvalue()


# Keys and signatures

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
KINDS = {
    "genesis": "Genesis",
    "authority-rotated": "AuthorityRotated",
    "agency-admitted": "AgencyAdmitted",
    "agency-suspended": "AgencySuspended",
    "agency-reinstated": "AgencyReinstated",
    "key-added": "KeyAdded",
    "key-retired": "KeyRetired",
    "key-revoked": "KeyRevoked",
    "channel-opened": "ChannelOpened",
    "channel-closed": "ChannelClosed",
    "member-joined": "MemberJoined",
    "member-left": "MemberLeft",
    "auditor-appointed": "AuditorAppointed",
    "auditor-dismissed": "AuditorDismissed",
    "service-key-announced": "ServiceKeyAnnounced",
    "directory-clock": "DirectoryClock",
    "channel-keys-published": "ChannelKeysPublished",
    "channel-keys-confirmed": "ChannelKeysConfirmed",
    "channel-keys-complained": "ChannelKeysComplained",
    "epoch-granted": "EpochGranted",
    "manifest": "RecordManifest",
    "access-request": "AccessRequest",
    "receipt": "Receipt",
    "collection-query": "CollectionQuery",
    "collection-answer": "CollectionAnswer",
}


def key_id(algorithm: str, public: bytes) -> bytes:
    return h(algorithm.encode() + b"\n", public)


def signing_public(public: bytes) -> bytes:
    """(1) 32 bytes, (2) y below p, (3) a point of the curve, (4) the point has no small order."""
    if len(public) != 32:
        fail("public-key")
    number = int.from_bytes(public, "little")
    y = number % 2**255
    sign = number >> 255
    if y >= P:
        fail("public-key")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        fail("public-key")
    x = P - x if x % 2 != sign else x
    for _ in range(3):
        x, y = _double(x, y)
    if (x, y) == (0, 1):
        fail("public-key")
    return public


def _double(x: int, y: int) -> tuple[int, int]:
    product = D * x * x * y * y
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


def verify(public: bytes, kind: str, genesis: bytes, content: bytes, signature: bytes) -> None:
    if not re.fullmatch("[a-z-]+", kind):
        fail("kind")
    signing_public(public)
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, LABEL + kind.encode() + b"\n" + genesis + content)
    except (InvalidSignature, ValueError):
        fail("signature")


def verify_signed(signed: Json, genesis: bytes, publics: Sequence[bytes]) -> Any:
    """The content of a statement that distinct keys, all among ``publics``, have signed."""
    if signed["kind"] not in KINDS:
        fail("kind")
    content = decode(protocol(KINDS[signed["kind"]]), signed["content"])
    known = {key_id("ed25519", public): public for public in publics}
    ids = [signature["key_id"] for signature in signed["signatures"]]
    if not ids or len(set(ids)) != len(ids) or not set(ids) <= known.keys():
        fail("signer")
    for signature in signed["signatures"]:
        verify(known[signature["key_id"]], signed["kind"], genesis, signed["content"], signature["signature"])
    return content


# Seal

SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True)
class Hybrid:
    """A private key of both halves."""

    mlkem: MLKEM768PrivateKey
    x25519: X25519PrivateKey

    @classmethod
    def of(cls, mlkem_seed: bytes, x25519: bytes) -> Hybrid:
        return cls(
            MLKEM768PrivateKey.from_seed_bytes(mlkem_seed), X25519PrivateKey.from_private_bytes(x25519)
        )

    @property
    def public(self) -> bytes:
        return self.mlkem.public_key().public_bytes_raw() + self.x25519.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        return key_id("mlkem768-x25519", self.public)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        if len(sealed) < 1136:
            fail("seal")
        try:
            return SUITE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(self.mlkem, self.x25519), info=info)
        except (InvalidTag, ValueError):
            fail("seal")


def hybrid_public(public: bytes) -> bytes:
    """(1) 1216 bytes, (2) both halves are keys, (3) a seal to them is possible."""
    if len(public) != 1216:
        fail("public-key")
    try:
        key = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]),
            X25519PublicKey.from_public_bytes(public[1184:]),
        )
        SUITE.encrypt(b"", key, info=b"")
    except (InvalidTag, ValueError):
        fail("public-key")
    return public


def seal_info(use: str, fields: Mapping[str, Any]) -> bytes:
    """``"ftf-broker/v1/" | use | "\\n" | fields``."""
    match use:
        case "member-share":
            parts = fields["context"]
        case "release":
            parts = fields["context"] + fields["intake_key_id"]
        case "seed":
            place = fields["genesis"] + h(fields["channel"].encode()) + u32(fields["epoch"], "seal")
            parts = place + h(fields["key"].encode()) + fields["recipient_key_id"]
        case "answer":
            parts = fields["request_digest"] + fields["answer_digest"]
        case _:
            raise ValueError(use)
    return LABEL + use.encode() + b"\n" + bytes(parts)


# Epochs


def half_commitment(genesis: bytes, half: bytes) -> bytes:
    if len(half) != 32:
        fail("half-length")
    return h(LABEL + b"half", genesis, half)


def epoch_seed(genesis: bytes, channel: str, epoch: int, use: str, halves: Sequence[bytes]) -> bytes:
    place = h(channel.encode()) + u32(epoch, "seal") + h(use.encode())
    return hkdf_expand(hkdf_extract(genesis, b"".join(halves)), LABEL + b"seed" + place)


def epoch_key(genesis: bytes, seed: bytes, label: str) -> bytes:
    return hkdf_expand(hkdf_extract(genesis, seed), LABEL + label.encode())


def manifest_nonce(genesis: bytes, seed: bytes, plaintext: bytes) -> bytes:
    return hmac.digest(epoch_key(genesis, seed, "manifest-nonce"), plaintext, "sha256")[:12]


def member_share_of(genesis: bytes, seed: bytes, context: bytes) -> bytes:
    return hkdf_expand(epoch_key(genesis, seed, "member-share"), context)


# Lock


def context_of(
    genesis: bytes, topic: str, partition: int, epoch: int, issuer: str, manifest_id: bytes
) -> bytes:
    place = u32(partition, "context") + u32(epoch, "context")
    return h(LABEL + b"context", genesis, h(topic.encode()), place, h(issuer.encode()), manifest_id)


def _index(index: int) -> bytes:
    return index.to_bytes(4, "big") if 0 <= index < 256 else fail("index")


def _share(share: bytes) -> bytes:
    return share if len(share) == 32 else fail("share-length")


def release_share(context: bytes, release_secret: bytes, index: int) -> bytes:
    return hkdf_expand(_share(release_secret), LABEL + b"release" + context + _index(index))


def body_key(context: bytes, member_share: bytes, index: int, share: bytes) -> bytes:
    prk = hkdf_extract(context, _share(member_share))
    return hkdf_expand(prk, LABEL + b"body" + _index(index) + _share(share))


def unlock(
    *,
    context: bytes,
    index: int,
    member_share: bytes,
    share: bytes,
    release_check: bytes,
    digest: bytes,
    commitment: bytes,
    value: bytes,
) -> bytes:
    """The checks of a body, in the order of the specification."""
    if h(value) != digest:
        fail("digest")
    if value[:1] != b"\x02" or not 529 <= len(value) <= 33_297:
        fail("body-form")
    if h(LABEL + b"release-check", context, _index(index), _share(share)) != release_check:
        fail("release-check")
    key = body_key(context, member_share, index, share)
    try:
        plaintext = AESGCM(key).decrypt(bytes(12), value[1:], None)
    except InvalidTag:
        fail("unlock")
    if h(LABEL + b"commitment", key, plaintext) != commitment:
        fail("commitment")
    return unpad(plaintext, 512, "body-padding", MAX_BODY)


def unpad(plaintext: bytes, block: int, check: str, most: int) -> bytes:
    """``u32(length) | content | zeros``, and no block more than is needed."""
    end = 4 + int.from_bytes(plaintext[:4], "big")
    if end - 4 > most or (end + block - 1) // block * block != len(plaintext) or any(plaintext[end:]):
        fail(check)
    return plaintext[4:end]


# Trees


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(entries) == 1:
        return h(b"\x00", entries[0])
    k = _split(len(entries))
    return h(b"\x01", tree_hash(entries[:k]), tree_hash(entries[k:]))


def partition_root(messages: Sequence[Json | None]) -> bytes:
    """The root over a partition from its offset 0 on; None is an offset at which the log holds nothing."""
    return tree_hash([_leaf(message) for message in messages]) if messages else h()


def _leaf(message: Json | None) -> bytes:
    if message is None:
        return b"\x00"
    key, value = message["key"], message["value"]
    at = message["appended_at"] if 0 <= message["appended_at"] <= 2**53 else 0
    parts = (
        b"\x00" if key is None else b"\x01" + len(key).to_bytes(4, "big") + key,
        b"\x00" if value is None else b"\x01" + h(value),
    )
    return b"".join((b"\x01", at.to_bytes(8, "big"), *parts))


def _split(n: int) -> int:
    return 1 << (n - 1).bit_length() - 1


def root_of_path(entry: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root to which a path leads: RFC 6962, section 2.1.1, read backwards."""
    if not 0 <= index < count or (count == 1) != (not path):
        fail("inclusion")
    if count == 1:
        return h(b"\x00", entry)
    k, sibling = _split(count), path[-1]
    if index < k:
        return h(b"\x01", root_of_path(entry, index, k, path[:-1]), sibling)
    return h(b"\x01", sibling, root_of_path(entry, index - k, count - k, path[:-1]))


# Manifest

COLUMNS = {
    "salts": 16,
    "record_ids": 16,
    "digests": 32,
    "commitments": 32,
    "release_checks": 32,
    "term_of": 1,
}


@dataclass(frozen=True)
class Manifest:
    """A manifest that passed every check, its entries as they are hashed."""

    batch_id: bytes
    content: Json
    entries: tuple[bytes, ...]
    columns: Json


def open_manifest(
    key: bytes, value: bytes, *, genesis: bytes, topic: str, partition: int, seed: bytes, signer: bytes
) -> Manifest:
    """The checks of a manifest message, in the order of the specification."""
    if len(key) != 16 or value[:1] != b"\x01" or not 17 + 256 + 16 <= len(value) <= MAX_VALUE:
        fail("form")
    epoch, nonce, ciphertext = int.from_bytes(value[1:5], "big"), value[5:17], value[17:]
    place = h(topic.encode()) + u32(partition, "form") + u32(epoch, "form") + key
    try:
        sealing_key = hkdf_expand(epoch_key(genesis, seed, "manifest"), place)
        padded = AESGCM(sealing_key).decrypt(nonce, ciphertext, None)
    except InvalidTag:
        fail("seal")
    if nonce != manifest_nonce(genesis, seed, padded):
        fail("nonce")
    plain = decode(protocol("ManifestPlaintext"), unpad(padded, 256, "padding", MAX_VALUE))
    signed = plain["signed"]
    columns = plain["entries"]
    if signed["kind"] != "manifest":
        fail("kind")
    if len(signed["signatures"]) != 1:
        fail("signatures")
    content = decode(protocol("RecordManifest"), signed["content"])
    header = content["header"]
    if (header["topic"], header["partition"], header["epoch"]) != (topic, partition, epoch):
        fail("header")
    if content["manifest_id"] != key:
        fail("manifest-id")
    if topic == "access" and content["instead_of"] is not None:
        fail("instead-of")
    if (content["positions"] is None) == (topic == "access"):
        fail("positions")
    if topic == "access" and (content["member_seals"] or content["release_seal"]):
        fail("access-seals")
    entries = tuple(_entries(content, columns))
    if tree_hash(entries) != content["entries_root"]:
        fail("entries-root")
    verify_signed(signed, genesis, [signer])
    return Manifest(h(signed["content"]), content, entries, columns)


def _entries(content: Json, columns: Json) -> Iterator[bytes]:
    count = content["count"]
    if not 1 <= count <= 256:
        fail("count")
    if len(content["member_seals"]) > 128:
        fail("member-seals")
    if content["release_root"] is not None:
        fail("release-root")
    if any(len(columns[name]) != count * size for name, size in COLUMNS.items()):
        fail("columns")
    leaves = [encode(protocol("TermsLeaf"), {"terms": terms}) for terms in columns["terms"]]
    used = list(dict.fromkeys(columns["term_of"]))
    if used != list(range(len(leaves))) or len(set(leaves)) != len(leaves):
        fail("terms")
    targets = [len(terms.get("targets", ())) if name.endswith(".RecordTerms") else 0
               for name, terms in columns["terms"]]  # fmt: skip
    if sum(targets[place] for place in columns["term_of"]) > 256:
        fail("targets")
    for i in range(count):
        fixed = [columns[name][i * size : (i + 1) * size] for name, size in list(COLUMNS.items())[:5]]
        yield b"".join(fixed) + leaves[columns["term_of"][i]]


# The live example


def read_example(example: Json) -> Json:
    """Find everything that the example states, from its keys and messages alone."""
    keys = example["keys"]
    values = [bytes.fromhex(message["value"]) for message in example["messages"]]
    authority = [_ed25519(seed) for seed in keys["authority"]]
    issuer, kas = _ed25519(keys["issuer_signing"]), _ed25519(keys["kas_signing"])
    founding = decode(protocol("Signed"), bytes.fromhex(example["genesis_message"]["value"]))
    genesis = h(founding["content"])
    founded = verify_signed(founding, ZERO, authority)
    if founded["authority_keys"] != authority or len(founding["signatures"]) < founded["threshold"]:
        fail("genesis")
    root = partition_root([given_bytes(example["genesis_message"])])

    intake = Hybrid.of(*map(bytes.fromhex, (keys["intake"]["mlkem_seed"], keys["intake"]["x25519"])))
    receiving = Hybrid.of(*map(bytes.fromhex, keys["issuer_receiving"].values()))
    message_key = bytes.fromhex(example["messages"][0]["key"])
    topic = example["topic"]
    partition = example["partition"]
    epoch = int.from_bytes(values[0][1:5], "big")
    seeds = {}
    for use in ("metadata", "content", "access"):
        halves = [bytes.fromhex(half) for half in keys[f"{use}_halves"]]
        seeds[use] = epoch_seed(genesis, example["channel"], epoch, use, halves)
    manifest = open_manifest(
        message_key,
        values[0],
        genesis=genesis,
        topic=topic,
        partition=partition,
        seed=seeds["metadata"],
        signer=issuer,
    )
    header = manifest.content["header"]
    if (header["directory_size"], header["directory_root"]) != (1, root):
        fail("directory-root")
    schema = json.loads(example["schema"])
    if h(canonical(schema)) != manifest.content["schema"]:
        fail("schema")

    context = context_of(genesis, topic, partition, header["epoch"], header["issuer"], message_key)
    if (manifest.content["member_seals"], manifest.content["intake_key_id"]) != ([], intake.key_id):
        fail("recipients")
    member_share = member_share_of(genesis, seeds["content"], context)
    fields = {"context": context, "intake_key_id": intake.key_id}
    secret = intake.open(manifest.content["release_seal"], seal_info("release", fields))

    count = manifest.content["count"]
    cells = _cells(manifest.columns)
    shares = [release_share(context, secret, i) for i in range(count)]
    plaintexts = []
    for i in range(count):
        if bytes.fromhex(example["messages"][i + 1]["key"]) != message_key + _index(i):
            fail("body-key")
        body = unlock(
            context=context,
            index=i,
            member_share=member_share,
            share=shares[i],
            release_check=cells["release_checks"][i],
            digest=cells["digests"][i],
            commitment=cells["commitments"][i],
            value=values[i + 1],
        )
        if decode(_without_logical_types(schema), body) != example["bodies"][i]:
            fail("body")
        plaintexts.append(body)
    found: Json = _hex(
        {
            "genesis": genesis,
            "authority_key_ids": [key_id("ed25519", public) for public in authority],
            "issuer_signing_key_id": key_id("ed25519", issuer),
            "issuer_receiving_key_id": receiving.key_id,
            **{f"{use}_seed": seed for use, seed in seeds.items()},
            "intake_key_id": intake.key_id,
            "kas_signing_key_id": key_id("ed25519", kas),
            "directory_root": root,
            "schema": manifest.content["schema"],
            "manifest_id": message_key,
            "nonce": values[0][5:17],
            "context": context,
            "batch_id": manifest.batch_id,
            "entries_root": manifest.content["entries_root"],
            "member_share": member_share,
            "release_secret": secret,
            **cells,
            "release_shares": shares,
            "body_keys": [body_key(context, member_share, i, shares[i]) for i in range(count)],
            "plaintexts": plaintexts,
        }
    )
    return found


def _cells(columns: Json) -> dict[str, list[bytes]]:
    return {
        name: [columns[name][at : at + size] for at in range(0, len(columns[name]), size)]
        for name, size in list(COLUMNS.items())[:5]
    }


def _ed25519(seed: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw()


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: _without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    return [_without_logical_types(branch) for branch in schema] if isinstance(schema, list) else schema


def _hex(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: _hex(item) for key, item in value.items()}
        case list() | tuple():
            return [_hex(item) for item in value]
    return value


# Vectors

_BYTES = re.compile("(?:[0-9a-f]{2})*")
_TEXT = frozenset(("kind", "topic", "channel", "issuer", "use"))


def given_bytes(value: Any, name: str = "") -> Any:
    """The input of a vector: hex is bytes, save where the field is text."""
    if isinstance(value, dict):
        text = "recipient_key_id" in value  # in the fields of a seed, `key` is a word
        return {k: item if text and k == "key" else given_bytes(item, k) for k, item in value.items()}
    if isinstance(value, list):
        return [given_bytes(item) for item in value]
    return bytes.fromhex(value) if isinstance(value, str) and name not in _TEXT else value


def judge(area: str, given: Json) -> Json:
    """Read a vector and return what was found, as hex. Raises Invalid, which names the failed check."""
    if area == "avro":
        schema = protocol(given["type"]) if "type" in given else given["schema"]
        return {"value": _hex(decode(schema, bytes.fromhex(given["data"])))}
    found: Json = _hex(_JUDGES[area](given_bytes(given)))
    return found


def _judge_sign(case: Json) -> Json:
    verify(case["public"], case["kind"], case["genesis"], case["content"], case["signature"])
    return {"key_id": key_id("ed25519", case["public"])}


def _judge_signed(case: Json) -> Json:
    signed = decode(protocol("Signed"), case["signed"])
    verify_signed(signed, case["genesis"], case["publics"])
    return {"digest": h(signed["content"])}


def _judge_keys(case: Json) -> Json:
    if "public" in case:
        return {"key_id": key_id("mlkem768-x25519", hybrid_public(case["public"]))}
    genesis, halves = case["genesis"], case["halves"]
    commitments = [half_commitment(genesis, half) for half in halves]
    seed = epoch_seed(genesis, case["channel"], case["epoch"], case["use"], halves)
    mac = hmac.digest(
        epoch_key(genesis, seed, "manifest-id"), case["fresh"] + b"".join(case["plaintexts"]), "sha256"
    )
    return {
        "commitments": commitments,
        "seed": seed,
        "manifest_id": mac[:16],
        "member_share": member_share_of(genesis, seed, case["context"]),
    }


def _judge_seal(case: Json) -> Json:
    key = Hybrid.of(case["mlkem_seed"], case["x25519"])
    return {"plaintext": key.open(case["sealed"], seal_info(case["use"], case["fields"]))}


def _judge_release(case: Json) -> Json:
    return {"release_share": release_share(case["context"], case["release_secret"], case["index"])}


def _judge_lock(case: Json) -> Json:
    place = [case[name] for name in ("genesis", "topic", "partition", "epoch", "issuer", "manifest_id")]
    context = context_of(*place)
    entry = {name: case[name] for name in ("index", "member_share", "release_check", "digest", "commitment")}
    body = unlock(context=context, share=case["release_share"], value=case["value"], **entry)
    return {"body": body, "context": context}


def _judge_held(case: Json) -> Json:
    key, nonce = case["storage_key"], case["value"][32:44]
    try:
        batch_key = hkdf_expand(key, LABEL + b"held" + case["batch_id"])
        held = AESGCM(batch_key).decrypt(nonce, case["value"][44:], None)
    except InvalidTag:
        fail("seal")
    if hmac.digest(hkdf_expand(key, LABEL + b"held-nonce"), held, "sha256")[:12] != nonce:
        fail("nonce")
    decode(protocol("HeldRelease"), held)
    return {"held": held}


def _judge_manifest(case: Json) -> Json:
    value = case["value"].ljust(case.pop("fill_to", 0), b"\0")
    manifest = open_manifest(case.pop("key"), value, **{k: v for k, v in case.items() if k != "value"})
    content = manifest.content
    root = content["entries_root"]
    return {"batch_id": manifest.batch_id, "count": content["count"], "entries_root": root}


def _judge_merkle(case: Json) -> Json:
    if root_of_path(case["entry"], case["index"], case["count"], case["path"]) != case["root"]:
        fail("inclusion")
    return {}


def _judge_tree(case: Json) -> Json:
    if partition_root(case["messages"]) != case["root"]:
        fail("root")
    return {}


def _judge_details(case: Json) -> Json:
    if h(LABEL + b"details", case["details"]) != case["commitment"]:
        fail("commitment")
    decode(protocol("AccessDetails"), case["details"])
    return {}


_JUDGES = {
    "sign": _judge_sign,
    "signed": _judge_signed,
    "keys": _judge_keys,
    "seal": _judge_seal,
    "release": _judge_release,
    "lock": _judge_lock,
    "held": _judge_held,
    "manifest": _judge_manifest,
    "merkle": _judge_merkle,
    "tree": _judge_tree,
    "details": _judge_details,
}


def main(paths: Sequence[str]) -> int:
    """Judge files of vectors; the exit code says whether this reader agrees with all of them."""
    wrong = 0
    for path in paths:
        vectors = json.loads(Path(path).read_text())
        for case in vectors["cases"]:
            try:
                found = "valid" if judge(vectors["area"], case["input"]) is not None else ""
            except Invalid as failed:
                found = str(failed)
            if found != case["expect"]:
                wrong += 1
                print(f"{vectors['area']} {case['name']}: expected {case['expect']}, found {found}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
