"""Batches on the wire: built, opened from every perspective, and refused when anything was changed."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crypto.epoch import ManifestPlace
from broker.crypto.hkdf import hkdf_sha256
from broker.crypto.lock import body_key, check_release_share, context_of, release_shares, unlock
from broker.crypto.log_tree import EMPTY_ROOT
from broker.crypto.merkle import inclusion_path, verify_inclusion
from broker.crypto.seal import open_sealed, release_info
from broker.crypto.sign import verify
from broker.errors import BrokerError, OpenError, UsageError
from broker.log.protocol import MAX_APPEND_BYTES, MESSAGE_OVERHEAD_BYTES, Message
from broker.log.protocol import append_bytes as log_bytes
from broker.wire.access import AccessBody
from broker.wire.batch import Item, Secrets, batch_bytes_bound, body_message_key, build_batch
from broker.wire.encoding import encode
from broker.wire.entry import entry_bytes, leaf_hashes
from broker.wire.limits import MAX_BATCH_BYTES, MESSAGE_OVERHEAD
from broker.wire.manifest import DenialTerms, Positions, TermsLeaf, TopicHead
from broker.wire.terms import Action, Target
from support.wire_batches import DRAW, ITEM, batch_of, context, envelope_of, items_of, opened, read
from vectors.coalition import (
    ACCESS,
    CONTENT,
    EPOCH,
    GENESIS,
    INTAKE,
    KAS,
    METADATA,
    PARTITION,
    POLICE,
    POLICE_RECEIVING,
    TOPIC,
    epoch_keys,
    header,
    intake_of,
    record_terms,
)


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
    first = Secrets.draw(CONTENT, [ITEM])
    other = Secrets.draw(CONTENT, [ITEM])
    assert {len(first.manifest_id), len(first.member_share), len(first.release_secret)} == {16, 32}
    assert first.manifest_id != other.manifest_id
    assert len({first.member_share, other.member_share, first.release_secret, other.release_secret}) == 4
    assert repr(first.member_share) not in repr(first)


POSITIONS = Positions(
    directory_size=1,
    directory_root=bytes(32),
    access_size=0,
    access_root=EMPTY_ROOT,
    topics=(TopicHead(topic=TOPIC, size=2, root=bytes(32)),),
)


def test_two_texts_under_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is resumed twice draws the same bytes twice, and no key locks or seals two texts."""
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"\x09" * size)
    texts = [replace(ITEM, body=b"one text"), replace(ITEM, body=b"the other")]
    one, other = (batch_of([item], draw=Secrets.draw(CONTENT, [item])) for item in texts)
    assert one.manifest.manifest_id != other.manifest.manifest_id
    assert context(one) != context(other)
    assert CONTENT.member_share(context(one)) != CONTENT.member_share(context(other))
    # The same records at another time: one manifest_id and one key, and therefore another nonce.
    later = batch_of(
        [replace(texts[0], terms=record_terms(erase_by=21_916))], draw=Secrets.draw(CONTENT, texts[:1])
    )
    assert later.manifest.manifest_id == one.manifest.manifest_id
    assert later.messages[1:] == one.messages[1:]
    assert envelope_of(later).sealed[:12] != envelope_of(one).sealed[:12]


class TestPerspectives:
    """Each holder of keys sees its own part, and nobody reads alone."""

    batch = batch_of([ITEM])

    def test_member_has_no_release_share(self) -> None:
        """A member opens the manifest, and its own receiving key does not open the release secret."""
        found = opened(envelope_of(self.batch))
        bound = context(self.batch)
        with pytest.raises(OpenError):
            open_sealed(POLICE_RECEIVING, found.manifest.release_seal, release_info(bound, INTAKE.key_id))

    def test_service_has_no_member_share(self) -> None:
        """The key access service opens manifest and release secret, and not the member share."""
        found = opened(envelope_of(self.batch))
        bound = context(self.batch)
        sealed = found.manifest.release_seal
        assert open_sealed(INTAKE, sealed, release_info(bound, INTAKE.key_id)) == DRAW.release_secret
        assert found.manifest.member_seals == ()
        shares = {keys.member_share(bound) for keys in (METADATA, ACCESS)}
        assert CONTENT.member_share(bound) not in shares

    def test_outsider_opens_nothing(self) -> None:
        """An outsider, who has no seed, opens nothing and seals nothing that opens."""
        outsider = epoch_keys(b"\x77" * 32)
        envelope = envelope_of(self.batch)
        with pytest.raises(OpenError):
            opened(envelope, keys=outsider)
        place = ManifestPlace(TOPIC, PARTITION, EPOCH, envelope.manifest_id)
        with pytest.raises(OpenError):
            opened(replace(envelope, sealed=outsider.seal_manifest(place, bytes(256))))

    def test_access_log(self) -> None:
        """On the access log the release secret is sealed to nobody, and auditors derive the member share."""
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
            metadata=ACCESS,
            content=ACCESS,
            named=(),
            intake=None,
            draw=replace(DRAW, release_secret=secret),
            positions=POSITIONS,
        )
        found = opened(envelope_of(batch), topic="access", keys=ACCESS)
        assert found.manifest.positions == POSITIONS
        assert (found.manifest.release_seal, found.manifest.intake_key_id) == (b"", bytes(32))
        assert found.entries.terms == (terms,)
        member = ACCESS.member_share(bound)
        (share,) = release_shares(bound, secret, (0,))
        key = body_key(bound, member, 0, share)
        assert unlock(key, 0, batch.messages[1][1], found.entries.commitments) == body


class TestBlame:
    """When reading fails, the signed manifest tells whose fault it is."""

    def test_wrong_member_share(self) -> None:
        """An issuer that locks under another member share is convicted by a body that does not unlock."""
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
        key = body_key(context(batch), CONTENT.member_share(context(batch)), 0, share)
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


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=256),
    kinds=st.integers(1, 256),
    seals=st.integers(0, 5),
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
        metadata=METADATA,
        content=CONTENT,
        named=[(POLICE_RECEIVING.key_id, POLICE_RECEIVING.public)] * seals,
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

    def test_member_seals(self) -> None:
        """A member share is sealed to at most 128 keys."""
        with pytest.raises(UsageError, match="sealed to 129 keys"):
            build_batch(
                genesis=GENESIS,
                header=header(),
                record_type="ReturnEvent",
                schema=bytes(32),
                items=[ITEM],
                key=POLICE,
                metadata=METADATA,
                content=CONTENT,
                named=[(POLICE_RECEIVING.key_id, POLICE_RECEIVING.public)] * 129,
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
