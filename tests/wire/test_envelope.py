"""Manifest messages: none opens in another place, and any bytes end in a manifest or in our error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crypto.epoch import MANIFEST_OVERHEAD, EpochKeys, ManifestPlace
from broker.errors import FormatError, OpenError, PeerError
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.entry import leaf_hashes
from broker.wire.envelope import Envelope, parse_envelope
from broker.wire.limits import MAX_BATCH_BYTES
from broker.wire.manifest import ManifestPlaintext, RecordManifest
from broker.wire.terms import RecordTerms
from support.wire_batches import ITEM, batch_of, envelope_of, items_of, opened
from vectors.coalition import (
    EPOCH,
    GENESIS,
    METADATA,
    METADATA_SEED,
    PARTITION,
    POLICE,
    TOPIC,
    epoch_keys,
    signing,
)

MESSAGE = batch_of(items_of(3)).messages[0]
HERE = ManifestPlace(TOPIC, PARTITION, EPOCH, MESSAGE[0])


def _plaintext(keys: EpochKeys = METADATA) -> bytes:
    plaintext = keys.open_manifest(HERE, MESSAGE[1][5:])
    assert plaintext is not None
    return plaintext


PLAINTEXT = _plaintext()


@pytest.mark.parametrize(
    ("topic", "partition", "epoch"),
    [("relocation", PARTITION, EPOCH), (TOPIC, PARTITION + 1, EPOCH), (TOPIC, PARTITION, EPOCH + 1)],
    ids=["topic", "partition", "epoch"],
)
class TestMoved:
    """A batch taken to another topic, partition or epoch is refused, however it is taken there."""

    envelope = envelope_of(batch_of([ITEM]))

    def test_copied(self, topic: str, partition: int, epoch: int) -> None:
        """When it is copied as it is, it does not open there, not even for a holder of the seed."""
        with pytest.raises(OpenError):
            opened(replace(self.envelope, epoch=epoch), topic=topic, partition=partition)

    def test_sealed_anew(self, topic: str, partition: int, epoch: int) -> None:
        """When a member opens and seals it anew, its signed header names another place."""
        manifest_id = self.envelope.manifest_id
        here = ManifestPlace(TOPIC, PARTITION, EPOCH, manifest_id)
        plaintext = METADATA.open_manifest(here, self.envelope.sealed)
        assert plaintext is not None
        there = ManifestPlace(topic, partition, epoch, manifest_id)
        moved = replace(self.envelope, epoch=epoch, sealed=METADATA.seal_manifest(there, plaintext))
        with pytest.raises(FormatError, match="another place"):
            opened(moved, topic=topic, partition=partition)


def test_replay_into_another_coalition() -> None:
    """A batch of an exercise does not open in production, even under the same seed."""
    with pytest.raises(OpenError):
        opened(envelope_of(batch_of([ITEM])), keys=epoch_keys(METADATA_SEED, bytes(32)))


@given(
    key=st.one_of(st.none(), st.binary(max_size=40), st.just(MESSAGE[0])),
    value=st.one_of(
        st.none(),
        st.binary(max_size=3000),
        st.binary(max_size=3000).map(lambda rest: b"\x01" + rest),
        st.binary(min_size=288, max_size=2500).map(lambda rest: b"\x01" + rest),
    ),
)
def test_any_message_is_parsed_or_none(key: bytes | None, value: bytes | None) -> None:
    """Any message is either no envelope, or an envelope that does not open."""
    envelope = parse_envelope(key, value)
    if envelope is not None:
        assert (key, value and value[0]) == (envelope.manifest_id, 1)
        with pytest.raises(PeerError):
            opened(envelope)


@pytest.mark.parametrize("size", [0, 16, 17, 288, MAX_BATCH_BYTES + 1])
def test_sizes_that_no_manifest_has(size: int) -> None:
    """A value that is too short for a sealed block, or larger than any batch, is no manifest."""
    assert parse_envelope(MESSAGE[0], (b"\x01" + bytes(size))[:size]) is None
    assert parse_envelope(MESSAGE[0], b"\x01" + bytes(4 + MANIFEST_OVERHEAD + 256)) is not None


def _sealed(padded: bytes) -> Envelope:
    return Envelope(manifest_id=MESSAGE[0], epoch=EPOCH, sealed=METADATA.seal_manifest(HERE, padded))


def _pad(avro: bytes) -> bytes:
    return len(avro).to_bytes(4, "big") + avro + bytes(-(4 + len(avro)) % 256)


def _opens_or_refuses(padded: bytes) -> None:
    """Check that sealed bytes are refused, or that encoding what was found gives the same bytes again."""
    try:
        found = opened(_sealed(padded))
    except PeerError:
        return
    assert _pad(encode(ManifestPlaintext(signed=found.signed, entries=found.entries))) == padded
    assert encode(found.manifest) == found.signed.content
    assert len(leaf_hashes(found.entries)) == found.manifest.count


@given(st.binary(max_size=1024))
def test_any_sealed_bytes(data: bytes) -> None:
    """Whatever an insider seals, opening ends in a manifest or in our error."""
    _opens_or_refuses(data)
    _opens_or_refuses(_pad(data))


@given(st.integers(0, len(PLAINTEXT) - 1), st.integers(1, 255), st.sampled_from(["change", "cut", "insert"]))
@settings(max_examples=200)
def test_mutated_plaintext(place: int, byte: int, how: str) -> None:
    """A manifest with one byte changed, cut or inserted is refused, or differs in its signature alone."""
    mutated = bytearray(PLAINTEXT)
    match how:
        case "change":
            mutated[place] ^= byte
        case "cut":
            del mutated[place]
        case "insert":
            mutated.insert(place, byte)
    _opens_or_refuses(bytes(mutated))
    length = int.from_bytes(PLAINTEXT[:4], "big")
    _opens_or_refuses(_pad(bytes(mutated[4 : 4 + length])))


@given(st.data())
@settings(max_examples=150)
def test_mutated_manifest_signed_by_its_issuer(data: st.DataObject) -> None:
    """A manifest that its own issuer garbled and signed is refused, or is another whole manifest."""
    plain = decode(ManifestPlaintext, PLAINTEXT[4 : 4 + int.from_bytes(PLAINTEXT[:4], "big")])
    content = bytearray(plain.signed.content)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    signed = sign_content(signing(0x55), "manifest", GENESIS, bytes(content))
    _opens_or_refuses(_pad(encode(replace(plain, signed=signed))))


@given(
    count=st.integers(-(2**31), 2**31 - 1),
    partition=st.integers(-(2**31), 2**31 - 1),
    epoch=st.integers(-(2**31), 2**31 - 1),
)
def test_any_numbers_in_a_signed_manifest(count: int, partition: int, epoch: int) -> None:
    """Whatever numbers an issuer signs, opening ends in a manifest or in our error."""
    plain = decode(ManifestPlaintext, PLAINTEXT[4 : 4 + int.from_bytes(PLAINTEXT[:4], "big")])
    manifest = decode(RecordManifest, plain.signed.content)
    place = replace(manifest.header, partition=partition, epoch=epoch)
    changed = replace(manifest, count=count, header=place)
    signed = replace(plain.signed, content=encode(changed))
    _opens_or_refuses(_pad(encode(replace(plain, signed=signed))))


def test_signature_is_judged_by_who_knows_the_directory() -> None:
    """Opening does not judge the signature: it returns the statement for somebody else to verify."""
    found = opened(envelope_of(batch_of([ITEM])))
    assert isinstance(found.entries.terms[0], RecordTerms)
    assert [signature.key_id for signature in found.signed.signatures] == [POLICE.key_id]


def test_sealing_depends_on_what_is_sealed() -> None:
    """Equal plaintexts give equal bytes, and different ones have different nonces."""
    again = METADATA.seal_manifest(HERE, PLAINTEXT)
    other = METADATA.seal_manifest(HERE, PLAINTEXT[:-1] + b"\x01")
    assert again == MESSAGE[1][5:]
    assert other[:12] != again[:12]


def test_a_nonce_of_another_plaintext_is_refused() -> None:
    """A holder of the seed that seals under a nonce of its choice is found before anything is decoded."""
    key = METADATA.manifest.block(bytes(HERE))
    sealed = bytes(12) + AESGCM(key).encrypt(bytes(12), PLAINTEXT, None)
    with pytest.raises(FormatError, match="nonce"):
        opened(replace(envelope_of(batch_of([ITEM])), manifest_id=MESSAGE[0], sealed=sealed))


def test_a_reserved_root_of_release_secrets_is_refused_by_name() -> None:
    """A manifest with a root of its stream's release secrets belongs to a later version."""
    plain = decode(ManifestPlaintext, PLAINTEXT[4 : 4 + int.from_bytes(PLAINTEXT[:4], "big")])
    manifest = replace(decode(RecordManifest, plain.signed.content), release_root=bytes(32))
    signed = sign_content(POLICE, "manifest", GENESIS, encode(manifest))
    with pytest.raises(FormatError, match="a root of release secrets is reserved"):
        opened(_sealed(_pad(encode(replace(plain, signed=signed)))))
