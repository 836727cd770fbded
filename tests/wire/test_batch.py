"""Batches on the wire: built, opened from every perspective, and refused when anything was changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crypto.hkdf import hkdf_sha256
from broker.crypto.lock import (
    body_key,
    check_release_share,
    context_of,
    release_shares,
    unlock,
)
from broker.crypto.merkle import inclusion_path, verify_inclusion
from broker.crypto.seal import (
    SEALED_OVERHEAD,
    ReceivingKey,
    epoch_key,
    member_share_info,
    open_sealed,
    release_info,
    seal,
    statement_info,
)
from broker.crypto.sign import verify
from broker.errors import BrokerError, FormatError, OpenError, PeerError, UsageError
from broker.log.protocol import MAX_APPEND_BYTES, MESSAGE_OVERHEAD_BYTES, Message
from broker.log.protocol import append_bytes as log_bytes
from broker.wire.access import AccessBody
from broker.wire.batch import Batch, Item, Secrets, batch_bytes_bound, body_message_key, build_batch
from broker.wire.encoding import decode, encode, sign_content
from broker.wire.entry import entry_bytes, leaf_hashes
from broker.wire.envelope import Envelope, OpenedManifest, manifest_tag, open_manifest, parse_envelope
from broker.wire.limits import MAX_BATCH_BYTES, MESSAGE_OVERHEAD
from broker.wire.manifest import DenialTerms, ManifestPlaintext, RecordManifest, TermsLeaf
from broker.wire.terms import Action, RecordTerms, Target
from vectors.coalition import (
    ACCESS,
    ACCESS_SEED,
    CONTENT,
    EPOCH,
    GENESIS,
    INTAKE,
    ISSUER,
    KAS,
    METADATA,
    METADATA_SEED,
    PARTITION,
    POLICE,
    TOPIC,
    admit_key,
    epoch_access,
    header,
    intake_of,
    receiving,
    record_terms,
    signing,
)

DRAW = Secrets(manifest_id=b"\x31" * 16, member_share=b"\x32" * 32, release_secret=b"\x33" * 32)
ITEM = Item(record_id=b"\x01" * 16, terms=record_terms(), body=b"body")


def batch_of(
    items: list[Item],
    *,
    draw: Secrets = DRAW,
    topic: str = TOPIC,
    partition: int = PARTITION,
    epoch: int = EPOCH,
    issuer: str = ISSUER,
) -> Batch:
    """A batch by the police to the channel."""
    return build_batch(
        genesis=GENESIS,
        header=header(topic=topic, partition=partition, epoch=epoch, issuer=issuer),
        record_type="ReturnEvent",
        schema=b"\x34" * 32,
        items=items,
        key=POLICE,
        epoch=epoch_access(),
        members=[(CONTENT.key_id, CONTENT.public)],
        intake=intake_of(),
        draw=draw,
    )


def envelope_of(batch: Batch) -> Envelope:
    """The manifest message of a batch."""
    envelope = parse_envelope(*batch.messages[0])
    assert envelope is not None
    return envelope


def opened(
    envelope: Envelope,
    *,
    topic: str = TOPIC,
    partition: int = PARTITION,
    genesis: bytes = GENESIS,
    key: ReceivingKey = METADATA,
) -> OpenedManifest:
    """The manifest that a holder of the metadata key sees."""
    return open_manifest(envelope, genesis=genesis, topic=topic, partition=partition, key=key)


def context(batch: Batch) -> bytes:
    """The context of a batch, as every reader derives it from the header."""
    place = batch.manifest.header
    return context_of(
        GENESIS, place.topic, place.partition, place.epoch, place.issuer, batch.manifest.manifest_id
    )


def read(batch: Batch, *, secret: bytes | None = None) -> list[bytes]:
    """Every body, as a member reads it with the shares that the key access service derives."""
    found, bound = opened(envelope_of(batch)), context(batch)
    member = open_sealed(CONTENT, found.manifest.member_seals[0].sealed, member_share_info(bound))
    released = open_sealed(INTAKE, found.manifest.release_seal, release_info(bound, INTAKE.key_id))
    indexes = range(found.manifest.count)
    bodies = []
    for i, share in enumerate(release_shares(bound, secret or released, indexes)):
        at = i * 32
        check_release_share(bound, i, share, found.entries.release_checks[at : at + 32])
        key = body_key(bound, member, i, share)
        bodies.append(unlock(key, i, batch.messages[i + 1][1], found.entries.commitments[at : at + 32]))
    return bodies


def items_of(count: int) -> list[Item]:
    """Records with three different terms and bodies of many sizes."""
    terms = [record_terms(erase_by=21_915 + i) for i in range(3)]
    return [
        Item(record_id=i.to_bytes(16, "big"), terms=terms[i % 3], body=b"x" * (i * 7 % 900))
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 255, 256])
def test_round_trip(count: int) -> None:
    """Every body of a batch of any size comes back, and every entry is bound by the signed manifest."""
    items = items_of(count)
    batch = batch_of(items)
    found = opened(envelope_of(batch))
    assert read(batch) == [item.body for item in items]
    assert found.batch_id == batch.batch_id
    assert found.manifest == batch.manifest
    (signature,) = found.signed.signatures
    verify(POLICE.public, "manifest", GENESIS, found.signed.content, signature.signature)
    assert [key for key, _ in batch.messages] == [
        DRAW.manifest_id,
        *(body_message_key(DRAW.manifest_id, i) for i in range(count)),
    ]
    assert [found.entries.terms[i] for i in found.entries.term_of] == [item.terms for item in items]
    assert len(found.entries.terms) == min(count, 3)


def test_entry_is_proved_alone() -> None:
    """Evidence shows one entry, byte by byte as the specification lays it out, and not its neighbours."""
    found = opened(envelope_of(batch_of(items_of(5))))
    entries = found.entries
    entry = entry_bytes(entries, 3)
    expected = b"".join(
        (
            entries.salts[48:64],
            entries.record_ids[48:64],
            entries.digests[96:128],
            entries.commitments[96:128],
            entries.release_checks[96:128],
            encode(TermsLeaf(terms=entries.terms[entries.term_of[3]])),
        )
    )
    assert entry == expected
    path = inclusion_path(leaf_hashes(entries), 3)
    verify_inclusion(entry, 3, found.manifest.count, path, found.manifest.entries_root)


def test_salts_are_fresh() -> None:
    """Two entries with the same terms have different salts, so that one leaf tells nothing about another."""
    entries = opened(envelope_of(batch_of([ITEM, ITEM]))).entries
    assert entries.salts[:16] != entries.salts[16:]


def test_secrets_are_drawn_anew() -> None:
    """Two batches draw different ids and secrets, and printing them shows nothing."""
    first = Secrets.draw()
    other = Secrets.draw()
    assert {len(first.manifest_id), len(first.member_share), len(first.release_secret)} == {16, 32}
    assert first.manifest_id != other.manifest_id
    assert len({first.member_share, other.member_share, first.release_secret, other.release_secret}) == 4
    assert repr(first.member_share) not in repr(first)


class TestPerspectives:
    """Each holder of keys sees its own part, and nobody reads alone."""

    batch = batch_of([ITEM])

    def test_member_has_no_release_share(self) -> None:
        """A member opens manifest and member share, and not the release secret."""
        found = opened(envelope_of(self.batch))
        bound = context(self.batch)
        assert (
            open_sealed(CONTENT, found.manifest.member_seals[0].sealed, member_share_info(bound))
            == DRAW.member_share
        )
        for key in (METADATA, CONTENT):
            with pytest.raises(OpenError):
                open_sealed(key, found.manifest.release_seal, release_info(bound, INTAKE.key_id))

    def test_service_has_no_member_share(self) -> None:
        """The key access service opens manifest and release secret, and not the member share."""
        found = opened(envelope_of(self.batch))
        bound = context(self.batch)
        sealed = found.manifest.release_seal
        assert open_sealed(INTAKE, sealed, release_info(bound, INTAKE.key_id)) == DRAW.release_secret
        for key in (METADATA, INTAKE):
            with pytest.raises(OpenError):
                open_sealed(key, found.manifest.member_seals[0].sealed, member_share_info(bound))

    def test_auditor_has_neither(self) -> None:
        """An auditor opens the manifest, and with the metadata and access keys neither share."""
        found = opened(envelope_of(self.batch))
        bound = context(self.batch)
        for key in (METADATA, ACCESS):
            for sealed, info in (
                (found.manifest.member_seals[0].sealed, member_share_info(bound)),
                (found.manifest.release_seal, release_info(bound, INTAKE.key_id)),
            ):
                with pytest.raises(OpenError):
                    open_sealed(key, sealed, info)

    def test_outsider_opens_nothing(self) -> None:
        """An outsider, who has no metadata key, opens nothing and makes no tag that is admitted."""
        with pytest.raises(OpenError):
            opened(envelope_of(self.batch), key=receiving(0x77))
        envelope = envelope_of(self.batch)
        place = (TOPIC, PARTITION, EPOCH, envelope.manifest_id, envelope.sealed)
        assert manifest_tag(admit_key(METADATA_SEED), *place) == envelope.tag
        assert manifest_tag(admit_key(b"\x77" * 32), *place) != envelope.tag

    def test_access_log(self) -> None:
        """On the access log the release secret is sealed to nobody; auditors open the member share."""
        head = header(topic="access", issuer="kas")
        bound = context_of(GENESIS, "access", PARTITION, EPOCH, "kas", DRAW.manifest_id)
        month = b"\x44" * 32
        secret = hkdf_sha256(month, salt=bound, info=b"ftf-broker/v1/access")
        terms = DenialTerms(agency="XCC:police", count=1, first_at=1, last_at=1)
        body = encode(AccessBody(details=None))
        batch = build_batch(
            genesis=GENESIS,
            header=head,
            record_type="AccessBody",
            schema=bytes(32),
            items=[Item(record_id=bytes(16), terms=terms, body=body)],
            key=KAS,
            epoch=epoch_access(ACCESS_SEED),
            members=[(ACCESS.key_id, ACCESS.public)],
            intake=None,
            draw=replace(DRAW, release_secret=secret),
        )
        found = opened(envelope_of(batch), topic="access", key=ACCESS)
        assert (found.manifest.release_seal, found.manifest.intake_key_id) == (b"", bytes(32))
        assert found.entries.terms == (terms,)
        member = open_sealed(ACCESS, found.manifest.member_seals[0].sealed, member_share_info(bound))
        (share,) = release_shares(bound, secret, (0,))
        key = body_key(bound, member, 0, share)
        assert unlock(key, 0, batch.messages[1][1], found.entries.commitments) == body


class TestBlame:
    """When reading fails, the signed manifest tells whose fault it is."""

    def test_wrong_member_share(self) -> None:
        """An issuer that seals another member share is convicted by a body that does not unlock."""
        batch = batch_of([ITEM])
        bound = context(batch)
        found = opened(envelope_of(batch))
        (share,) = release_shares(bound, DRAW.release_secret, (0,))
        check_release_share(bound, 0, share, found.entries.release_checks)
        key = body_key(bound, b"\x66" * 32, 0, share)
        with pytest.raises(OpenError, match="does not unlock"):
            unlock(key, 0, batch.messages[1][1], found.entries.commitments)

    def test_wrong_release_share(self) -> None:
        """A service that hands out another share is convicted by the issuer's signed check."""
        with pytest.raises(OpenError, match="release check"):
            read(batch_of([ITEM]), secret=b"\x66" * 32)

    def test_wrong_commitment(self) -> None:
        """An issuer that commits to another text is convicted by a commitment that differs."""
        batch = batch_of([ITEM])
        found = opened(envelope_of(batch))
        (share,) = release_shares(context(batch), DRAW.release_secret, (0,))
        key = body_key(context(batch), DRAW.member_share, 0, share)
        with pytest.raises(OpenError, match="committed"):
            unlock(key, 0, batch.messages[1][1], bytes(32))
        assert unlock(key, 0, batch.messages[1][1], found.entries.commitments) == b"body"

    def test_junk_release_secret(self) -> None:
        """A release secret of the wrong length ends in an error, and gives no share."""
        with pytest.raises(OpenError, match="expected 32"):
            read(batch_of([ITEM]), secret=b"junk")


def test_copied_manifest_id_gives_another_context() -> None:
    """A member that copies a manifest_id and every sealed part gets shares that open no body there."""
    victim = batch_of([ITEM])
    attacker = batch_of([ITEM], issuer="XBB:police")
    assert attacker.manifest.manifest_id == victim.manifest.manifest_id
    assert context(attacker) != context(victim)
    stolen = victim.manifest.release_seal
    with pytest.raises(OpenError):  # the service opens seals for the context of the batch that asks
        open_sealed(INTAKE, stolen, release_info(context(attacker), INTAKE.key_id))
    (share,) = release_shares(context(attacker), DRAW.release_secret, (0,))
    found = opened(envelope_of(victim))
    with pytest.raises(OpenError):
        check_release_share(context(victim), 0, share, found.entries.release_checks)


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
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=256),
    kinds=st.integers(1, 256),
    seals=st.integers(1, 5),
    issuer=st.text("abcdefghij", min_size=1, max_size=48),
    targets=st.integers(0, 1),
)
@settings(max_examples=25)
def test_batch_bytes_bound_is_an_upper_bound(
    sizes: list[int], kinds: int, seals: int, issuer: str, targets: int
) -> None:
    """No batch is larger on the log than the bound that the publisher computed before it built the batch."""
    order = Action.RECTIFY if targets else Action.NEW
    terms = [
        replace(
            record_terms(erase_by=20_000 + i),
            action=order,
            targets=(Target(batch_id=bytes(32), index=255),) * targets,
        )
        for i in range(min(kinds, len(sizes)))
    ]
    items = [
        Item(record_id=bytes(16), terms=terms[i % len(terms)], body=bytes(size))
        for i, size in enumerate(sizes)
    ]
    expected = batch_bytes_bound(sizes, sum(len(encode(TermsLeaf(terms=each))) for each in terms), seals)
    batch = build_batch(
        genesis=GENESIS,
        header=header(topic="t" * 64, issuer=f"XAAAAAAA:{issuer}"),
        record_type="R" * 63,
        schema=bytes(32),
        items=items,
        key=POLICE,
        epoch=epoch_access(),
        members=[(CONTENT.key_id, CONTENT.public)] * seals,
        intake=intake_of(),
        draw=DRAW,
    )
    assert log_bytes([Message(key, value) for key, value in batch.messages]) <= expected


def test_the_largest_batch_fits_one_append() -> None:
    """Whatever the format allows as one batch, the log takes in one append: it counts no byte more."""
    assert MAX_BATCH_BYTES <= MAX_APPEND_BYTES
    assert MESSAGE_OVERHEAD >= MESSAGE_OVERHEAD_BYTES


class TestBuildRefuses:
    """A writer cannot build what no reader would take."""

    @pytest.mark.parametrize("count", [0, 257])
    def test_count(self, count: int) -> None:
        """A batch has 1 to 256 records."""
        with pytest.raises(UsageError, match=f"batch of {count} records"):
            batch_of([ITEM] * count)

    def test_record_id(self) -> None:
        """A record id has 16 bytes."""
        with pytest.raises(UsageError, match="16 bytes"):
            batch_of([replace(ITEM, record_id=b"short")])

    def test_targets(self) -> None:
        """A batch has at most 256 targets, counted for each record."""
        targets = tuple(Target(batch_id=bytes(32), index=0) for _ in range(86))
        aimed = replace(ITEM, terms=replace(record_terms(), action=Action.ERASE, targets=targets))
        assert batch_of([aimed] * 2).manifest.count == 2
        with pytest.raises(UsageError, match="258 targets"):
            batch_of([aimed] * 3)

    @pytest.mark.parametrize("members", [0, 129])
    def test_member_seals(self, members: int) -> None:
        """A member share is sealed to 1 to 128 keys."""
        with pytest.raises(UsageError, match=f"sealed to {members} keys"):
            build_batch(
                genesis=GENESIS,
                header=header(),
                record_type="ReturnEvent",
                schema=bytes(32),
                items=[ITEM],
                key=POLICE,
                epoch=epoch_access(),
                members=[(CONTENT.key_id, CONTENT.public)] * members,
                intake=intake_of(),
                draw=DRAW,
            )

    def test_size(self) -> None:
        """A batch has at most a million bytes."""
        large = replace(ITEM, body=bytes(32 * 1024))
        with pytest.raises(UsageError, match=f"at most {MAX_BATCH_BYTES}"):
            batch_of([large] * 31)

    def test_terms_that_do_not_encode(self) -> None:
        """Terms with a value that Avro cannot hold are refused, and the error names the field."""
        terms = replace(record_terms(), erase_by=2**31)
        with pytest.raises(UsageError, match="erase_by"):
            batch_of([replace(ITEM, terms=terms)])

    @pytest.mark.parametrize(("partition", "epoch"), [(-1, 0), (0, -1), (0, 2**32)])
    def test_place(self, partition: int, epoch: int) -> None:
        """A partition or epoch that does not fit ends in our error."""
        with pytest.raises(BrokerError):
            batch_of([ITEM], partition=partition, epoch=epoch)


# Any bytes. ----------------------------------------------------------------------------------------------

MESSAGE = batch_of(items_of(3)).messages[0]
PLAINTEXT = open_sealed(METADATA, MESSAGE[1][21:], statement_info(GENESIS, TOPIC, PARTITION, EPOCH))


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
