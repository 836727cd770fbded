"""Manifest messages: none opens in another place, and any bytes end in a manifest or in our error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crypto.seal import SEALED_OVERHEAD, epoch_key, open_sealed, seal, statement_info
from broker.errors import FormatError, OpenError, PeerError
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.entry import leaf_hashes
from broker.wire.envelope import Envelope, manifest_tag, parse_envelope
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
    admit_key,
    epoch_access,
    signing,
)

MESSAGE = batch_of(items_of(3)).messages[0]
PLAINTEXT = open_sealed(METADATA, MESSAGE[1][21:], statement_info(GENESIS, TOPIC, PARTITION, EPOCH))


@pytest.mark.parametrize(
    ("topic", "partition", "epoch"),
    [("relocation", PARTITION, EPOCH), (TOPIC, PARTITION + 1, EPOCH), (TOPIC, PARTITION, EPOCH + 1)],
    ids=["topic", "partition", "epoch"],
)
class TestMoved:
    """A batch taken to another topic, partition or epoch is refused, however it is taken there."""

    envelope = envelope_of(batch_of([ITEM]))

    def test_copied(self, topic: str, partition: int, epoch: int) -> None:
        """When it is copied as it is, its tag does not fit there."""
        admit = admit_key(METADATA_SEED)
        copied = self.envelope
        tag = manifest_tag(admit, topic, partition, epoch, copied.manifest_id, copied.sealed)
        assert tag != copied.tag

    def test_tagged_anew(self, topic: str, partition: int, epoch: int) -> None:
        """When a member tags it anew, its seal does not open there."""
        with pytest.raises(OpenError):
            opened(replace(self.envelope, epoch=epoch), topic=topic, partition=partition)

    def test_sealed_anew(self, topic: str, partition: int, epoch: int) -> None:
        """When a member opens and seals it anew, its signed header names another place."""
        here = statement_info(GENESIS, TOPIC, PARTITION, EPOCH)
        plaintext = open_sealed(METADATA, self.envelope.sealed, here)
        there = statement_info(GENESIS, topic, partition, epoch)
        moved = replace(self.envelope, epoch=epoch, sealed=seal(METADATA.public, plaintext, there))
        with pytest.raises(FormatError, match="another place"):
            opened(moved, topic=topic, partition=partition)


def test_replay_into_another_coalition() -> None:
    """A batch of an exercise does not open in production, even under the same keys."""
    with pytest.raises(OpenError):
        opened(envelope_of(batch_of([ITEM])), genesis=bytes(32))


@given(
    key=st.one_of(st.none(), st.binary(max_size=40), st.just(MESSAGE[0])),
    value=st.one_of(
        st.none(),
        st.binary(max_size=3000),
        st.binary(max_size=3000).map(lambda rest: b"\x01" + rest),
        st.binary(min_size=1413, max_size=2500).map(lambda rest: b"\x01" + rest),
    ),
)
def test_any_message_is_parsed_or_none(key: bytes | None, value: bytes | None) -> None:
    """Any message is either no envelope, or an envelope that does not open."""
    envelope = parse_envelope(key, value)
    if envelope is not None:
        assert (key, value and value[0]) == (envelope.manifest_id, 1)
        with pytest.raises(PeerError):
            opened(envelope)


@pytest.mark.parametrize("size", [0, 20, 21, 1412, MAX_BATCH_BYTES + 1])
def test_sizes_that_no_manifest_has(size: int) -> None:
    """A value that is too short for a sealed block, or larger than any batch, is no manifest."""
    assert parse_envelope(MESSAGE[0], (b"\x01" + bytes(size))[:size]) is None
    assert parse_envelope(MESSAGE[0], b"\x01" + bytes(21 + SEALED_OVERHEAD + 256 - 1)) is not None


def _sealed(padded: bytes) -> Envelope:
    info = statement_info(GENESIS, TOPIC, PARTITION, EPOCH)
    sealed = seal(METADATA.public, padded, info)
    return Envelope(manifest_id=MESSAGE[0], epoch=EPOCH, tag=bytes(16), sealed=sealed)


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


def test_epoch_keys_are_pairs() -> None:
    """The keys of a publisher and of a reader of an epoch are one key pair."""
    assert epoch_access(METADATA_SEED).public == epoch_key(METADATA_SEED).public
