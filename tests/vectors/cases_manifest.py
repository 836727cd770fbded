"""Vectors of manifest messages: admitted, opened, checked, and whose signature they carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.avro.schema_file import protocol_schema, schema_id
from broker.crypto.epoch import ManifestPlace
from broker.crypto.log_tree import EMPTY_ROOT
from broker.crypto.merkle import root_of_leaves
from broker.wire.access import AccessBody, AccessRequest
from broker.wire.batch import Item, Secrets, build_batch
from broker.wire.encoding import encode, sign_content
from broker.wire.entry import leaf_hashes
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import (
    AccessTerms,
    Entries,
    ManifestPlaintext,
    Operation,
    Positions,
    RecordItem,
    RecordManifest,
    RecordOutcome,
    Sealed,
    Signed,
    TopicHead,
    Verdict,
)
from broker.wire.terms import Purpose, RecordTerms, Target
from vectors.cases import Case, fails, flip, valid
from vectors.coalition import (
    ACCESS,
    ACCESS_SEED,
    CONTENT,
    CONTENT_SEED,
    EPOCH,
    GENESIS,
    GENESIS_ROOT,
    KAS,
    METADATA,
    METADATA_SEED,
    PARTITION,
    POLICE,
    POLICE_RECEIVING,
    TOPIC,
    ZERO,
    epoch_keys,
    header,
    intake_of,
    record_terms,
)

__all__ = ["cases"]

_SECRETS = Secrets(manifest_id=b"\x61" * 16, member_share=b"\x62" * 32, release_secret=b"\x63" * 32)
_SCHEMA = b"\x64" * 32
_Given = dict[str, object]


def _given(key: bytes, value: bytes, **changed: object) -> _Given:
    given: _Given = {
        "key": key,
        "value": value,
        "genesis": GENESIS,
        "topic": TOPIC,
        "partition": PARTITION,
        "seed": METADATA_SEED,
        "signer": POLICE.public,
    }
    return given | changed


def _items(count: int, kinds: int = 2) -> list[Item]:
    terms = [record_terms(erase_by=21_915 + i) for i in range(kinds)]
    return [Item(record_id=i.to_bytes(16, "big"), terms=terms[i % kinds], body=b"body") for i in range(count)]


def _batch(count: int, kinds: int = 2) -> tuple[bytes, bytes]:
    batch = build_batch(
        genesis=GENESIS,
        header=header(),
        record_type="ReturnEvent",
        schema=_SCHEMA,
        items=_items(count, kinds),
        key=POLICE,
        metadata=METADATA,
        content=CONTENT,
        named=(),
        intake=intake_of(),
        draw=_SECRETS,
    )
    return batch.messages[0]


def _opened(key: bytes, value: bytes) -> OpenedManifest:
    envelope = parse_envelope(key, value)
    if envelope is None:
        raise ValueError("not a manifest message")
    opened = open_manifest(envelope, topic=TOPIC, partition=PARTITION, keys=METADATA)
    if opened is None:
        raise ValueError("the manifest does not open")
    return opened


_KEY, _VALUE = _batch(3)
_OPENED = _opened(_KEY, _VALUE)


def _message(padded: bytes, *, topic: str = TOPIC, partition: int = PARTITION, epoch: int = EPOCH) -> bytes:
    """A sealed manifest message around any plaintext, as a malicious member can make it."""
    sealed = METADATA.seal_manifest(ManifestPlace(topic, partition, epoch, _KEY), padded)
    return b"\x01" + epoch.to_bytes(4, "big") + sealed


def _under_nonce(nonce: bytes, padded: bytes) -> bytes:
    """The message of a member that chooses its own nonce."""
    key = METADATA.manifest.block(bytes(ManifestPlace(TOPIC, PARTITION, EPOCH, _KEY)))
    return b"\x01" + EPOCH.to_bytes(4, "big") + nonce + AESGCM(key).encrypt(nonce, padded, None)


def _pad(avro: bytes) -> bytes:
    return len(avro).to_bytes(4, "big") + avro + bytes(-(4 + len(avro)) % 256)


POSITIONS = Positions(
    directory_size=1,
    directory_root=GENESIS_ROOT,
    access_size=0,
    access_root=EMPTY_ROOT,
    topics=(TopicHead(topic=TOPIC, size=4, root=b"\x73" * 32),),
)


def _forged(
    *,
    entries: Entries = _OPENED.entries,
    change: Callable[[RecordManifest], RecordManifest] = lambda manifest: manifest,
    rehash: bool = False,
) -> bytes:
    """The message of a manifest that its issuer changed at will, and signed and sealed correctly."""
    manifest = change(_OPENED.manifest)
    if rehash:
        manifest = replace(manifest, entries_root=root_of_leaves(leaf_hashes(entries)))
    signed = sign_content(POLICE, "manifest", GENESIS, encode(manifest))
    return _message(_pad(encode(ManifestPlaintext(signed=signed, entries=entries))))


def _with_signed(signed: Signed) -> bytes:
    return _message(_pad(encode(ManifestPlaintext(signed=signed, entries=_OPENED.entries))))


def _good() -> list[Case]:
    cases = []
    for name, count, kinds in (("one", 1, 1), ("three", 3, 2), ("most", 256, 3)):
        key, value = _batch(count, kinds)
        opened = _opened(key, value)
        output = {"batch_id": opened.batch_id, "count": count, "entries_root": opened.manifest.entries_root}
        cases.append(valid(name, f"a manifest of {count} records", _given(key, value), output))
    replacing = _forged(change=lambda m: replace(m, instead_of=b"\x74" * 32))
    opened = _opened(_KEY, replacing)
    output = {
        "batch_id": opened.batch_id,
        "count": opened.manifest.count,
        "entries_root": opened.manifest.entries_root,
    }
    what = "a manifest whose batch replaces a stale one"
    cases.append(valid("instead-of", what, _given(_KEY, replacing), output))
    return [*cases, _access_entry()]


def _access_entry(instead_of: bytes | None = None, named: Sequence[tuple[bytes, bytes]] = ()) -> Case:
    request = AccessRequest(
        issuer="XAA:police",
        issued_at=1_767_312_000_000_000,
        directory_size=1,
        directory_root=GENESIS_ROOT,
        seen=(),
        nonce=b"\x71" * 16,
        operation=Operation.CONSULTATION,
        channel="xaa-xbb",
        items=(RecordItem(topic=TOPIC, offset=0, batch_id=_OPENED.batch_id, indexes=b"\0\1"),),
        purpose=Purpose.INVESTIGATION,
        mandate_ref=None,
        passes_on=False,
        details_commitment=b"\x72" * 32,
    )
    terms = AccessTerms(
        request=sign_content(POLICE, "access-request", GENESIS, encode(request)),
        outcomes=(RecordOutcome(item=0, indexes=b"\0\1", verdict=Verdict.ALLOWED, reason=None),),
    )
    batch = build_batch(
        genesis=GENESIS,
        header=header(topic="access", issuer="kas"),
        record_type="AccessBody",
        schema=schema_id(protocol_schema("AccessBody")),
        items=[Item(record_id=bytes(16), terms=terms, body=encode(AccessBody(details=None)))],
        key=KAS,
        metadata=ACCESS,
        content=ACCESS,
        named=named,
        intake=None,
        draw=_SECRETS,
        positions=POSITIONS,
        instead_of=instead_of,
    )
    key, value = batch.messages[0]
    given = _given(key, value, topic="access", seed=ACCESS_SEED, signer=KAS.public)
    if instead_of is not None:
        what = "an access entry that claims to replace another"
        return fails("instead-of-access", what, given, "instead-of", "FormatError")
    if named:
        what = "an access entry whose member share is sealed to somebody"
        return fails("access-seals", what, given, "access-seals", "FormatError")
    output = {"batch_id": batch.batch_id, "count": 1, "entries_root": batch.manifest.entries_root}
    return valid(
        "access-entry", "an access entry: the signed request, whole, and the decision", given, output
    )


def _bad(
    name: str, what: str, check: str, value: bytes, error: str = "FormatError", **changed: object
) -> Case:
    return fails(name, what, _given(_KEY, value) | changed, check, error)


def _outside() -> list[Case]:
    """Messages that are refused before anything is opened, or that do not open."""
    outsider = epoch_keys(b"\x99" * 32).seal_manifest(
        ManifestPlace(TOPIC, PARTITION, EPOCH, _KEY), bytes(256)
    )
    return [
        _bad("empty", "a value of no bytes", "form", b""),
        _bad("form-kind", "a value that begins with 03", "form", b"\x03" + _VALUE[1:]),
        _bad("form-short", "a value that cannot hold a seal", "form", _VALUE[:288]),
        _bad("form-long", "a value of a million bytes and one", "form", _VALUE[:21], fill_to=1_000_001),
        _bad("form-key", "a key of 15 bytes", "form", _VALUE, key=_KEY[:-1]),
        _bad("form-body-key", "the key of a body", "form", _VALUE, key=_KEY + bytes(4)),
        _unsealed("seal-nonce-changed", "a bit of the nonce changed", flip(_VALUE, 5)),
        _unsealed("seal-changed", "a bit of the ciphertext changed", flip(_VALUE, 17)),
        _unsealed("seal-tag-changed", "a bit of the authentication tag changed", flip(_VALUE)),
        _unsealed("seal-truncated", "a byte of the seal cut", _VALUE[:-1]),
        _unsealed("seal-outsider", "sealed by who lacks the epoch's seed", _VALUE[:5] + outsider),
        _unsealed("seal-manifest-id", "appended under another manifest_id", _VALUE, key=b"\x99" * 16),
        _unsealed("seal-topic", "copied to another topic", _VALUE, topic="relocation"),
        _unsealed("seal-partition", "copied to another partition", _VALUE, partition=8),
        _unsealed("seal-epoch", "the epoch in the envelope changed", b"\x01\0\0\0\x04" + _VALUE[5:]),
        _unsealed("seal-genesis", "replayed into another coalition", _VALUE, genesis=bytes(32)),
        _unsealed("seal-use", "opened with the seed of another use", _VALUE, seed=CONTENT_SEED),
    ]


def _unsealed(name: str, what: str, value: bytes, **changed: object) -> Case:
    return _bad(name, what, "seal", value, "OpenError", **changed)


def _inside() -> list[Case]:
    """Messages that open and are not what they should be."""
    avro = encode(ManifestPlaintext(signed=_OPENED.signed, entries=_OPENED.entries))
    padded = _pad(avro)
    signed = _OPENED.signed
    content = signed.content
    as_receipt = sign_content(POLICE, "receipt", GENESIS, content)
    longer = sign_content(POLICE, "manifest", GENESIS, content + b"\0")
    by_kas = sign_content(KAS, "manifest", GENESIS, content)
    wrong = replace(signed.signatures[0], signature=flip(signed.signatures[0].signature))
    elsewhere = sign_content(POLICE, "manifest", bytes(32), content)
    assert not padded[-1], "the padding cases change its last byte"
    return [
        _bad("nonce", "a nonce that its member has chosen", "nonce", _under_nonce(bytes(12), padded)),
        _bad("padding-not-zero", "a one at the end of the padding", "padding", _message(flip(padded))),
        _bad("padding-too-long", "a block more than is needed", "padding", _message(padded + bytes(256))),
        _bad("padding-no-block", "a byte more than is needed", "padding", _message(padded + b"\0")),
        _bad("padding-length-beyond", "a length beyond the end", "padding",
             _message(len(padded).to_bytes(4, "big") + padded[4:])),
        _bad("padding-length-huge", "a length of 4 GB", "padding", _message(b"\xff" * 4 + padded[4:])),
        _bad("avro-trailing", "a byte behind the Avro", "avro", _message(_pad(avro + b"\0"))),
        _bad("avro-truncated", "the last byte of the Avro cut", "avro", _message(_pad(avro[:-1]))),
        _bad("avro-empty", "a length of zero", "avro", _message(_pad(b""))),
        _bad("avro-content-trailing", "a byte behind the signed content", "avro", _with_signed(longer)),
        _bad("kind", "the content signed as a receipt", "kind", _with_signed(as_receipt)),
        _bad("signatures-none", "no signature", "signatures", _with_signed(replace(signed, signatures=()))),
        _bad("signatures-two", "two signatures", "signatures",
             _with_signed(replace(signed, signatures=signed.signatures * 2))),
        _bad("header-topic", "opened by a member and sealed anew for another topic", "header",
             _message(padded, topic="relocation"), topic="relocation"),
        _bad("header-partition", "opened by a member and sealed anew for another partition", "header",
             _message(padded, partition=8), partition=8),
        _bad("header-epoch", "opened by a member and sealed anew under another epoch", "header",
             _message(padded, epoch=4)),
        _bad("header-epoch-negative", "a header whose epoch is -1", "header",
             _forged(change=lambda m: replace(m, header=header(epoch=-1)))),
        _bad("release-root", "a root of release secrets, which is reserved", "release-root",
             _forged(change=lambda m: replace(m, release_root=bytes(32)))),
        _bad("manifest-id", "a manifest_id that is not the message's key", "manifest-id",
             _forged(change=lambda m: replace(m, manifest_id=b"\x99" * 16))),
        _bad("positions", "positions in a record topic", "positions",
             _forged(change=lambda m: replace(m, positions=POSITIONS))),
        _access_entry(instead_of=b"\x74" * 32),
        _access_entry(named=[(POLICE_RECEIVING.key_id, POLICE_RECEIVING.public)]),
        _bad("signature-changed", "a bit of the signature changed", "signature",
             _with_signed(replace(signed, signatures=(wrong,))), "SignatureInvalid"),
        _bad("signature-other-coalition", "signed for another coalition", "signature",
             _with_signed(elsewhere), "SignatureInvalid"),
        _bad("signer", "signed by a key that is not the issuer's", "signer", _with_signed(by_kas),
             "SignatureInvalid"),
        *_columns(),
    ]  # fmt: skip


def _columns() -> list[Case]:
    """Entries that do not fit each other or their manifest."""
    entries = _OPENED.entries
    first, second = entries.terms
    aimed = replace(
        cast("RecordTerms", first),
        targets=tuple(Target(batch_id=bytes(32), index=i) for i in range(129)),
    )
    seal_of_none = Sealed(key_id=ZERO, sealed=b"")

    def forged(name: str, what: str, check: str, changed: Entries, *, rehash: bool = False) -> Case:
        return _bad(name, what, check, _forged(entries=changed, rehash=rehash))

    def counted(name: str, count: int, check: str) -> Case:
        return _bad(name, f"a count of {count}", check, _forged(change=lambda m: replace(m, count=count)))

    def sealed_to(name: str, keys: int) -> Case:
        value = _forged(change=lambda m: replace(m, member_seals=(seal_of_none,) * keys))
        return _bad(name, f"{keys} member seals", "member-seals", value)

    swapped = entries.digests[32:64] + entries.digests[:32] + entries.digests[64:]
    return [
        counted("count-0", 0, "count"),
        counted("count-257", 257, "count"),
        counted("count-negative", -1, "count"),
        counted("count-less", 2, "columns"),
        counted("count-more", 4, "columns"),
        sealed_to("member-seals-129", 129),
        *(
            forged(f"column-{name.replace('_', '-')}", f"a byte cut from {name}", "columns",
                   replace(entries, **{name: getattr(entries, name)[:-1]}))
            for name in ("salts", "record_ids", "digests", "commitments", "release_checks", "term_of")
        ),
        forged("terms-order", "terms not in order of first use", "terms",
               replace(entries, terms=(second, first), term_of=b"\1\0\1"), rehash=True),
        forged("terms-twice", "the same terms twice", "terms",
               replace(entries, terms=(first, first), term_of=b"\0\1\0"), rehash=True),
        forged("terms-unused", "terms of no record", "terms",
               replace(entries, terms=(first, second), term_of=b"\0\0\0"), rehash=True),
        forged("terms-beyond", "a record whose terms are not there", "terms",
               replace(entries, term_of=b"\0\1\2")),
        forged("terms-none", "no terms", "terms", replace(entries, terms=())),
        forged("targets", "two records with 129 targets each", "targets",
               replace(entries, terms=(aimed, second), term_of=b"\0\1\0"), rehash=True),
        forged("root-digests", "the digests of two records exchanged", "entries-root",
               replace(entries, digests=swapped)),
        forged("root-terms", "the terms of two records exchanged", "entries-root",
               replace(entries, term_of=b"\0\1\1")),
        forged("root-salt", "a bit of a salt changed", "entries-root",
               replace(entries, salts=flip(entries.salts))),
        _bad("root-exchanged", "a root of other entries", "entries-root",
             _forged(change=lambda m: replace(m, entries_root=bytes(32)))),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of a manifest message."""
    return _good() + _outside() + _inside()
