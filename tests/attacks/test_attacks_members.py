"""Attacks by members, former members, strangers and thieves who publish without the right to do so."""

from __future__ import annotations

import secrets
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from broker.avro.schema import default_store
from broker.directory import Directory, drafts
from broker.log.protocol import Message, Partition
from broker.verify.violations import Kind, Place, Violation
from broker.wire.batch import Batch, Secrets
from broker.wire.encoding import Statement, encode
from broker.wire.envelope import open_manifest, parse_envelope
from broker.wire.manifest import ManifestPlaintext, Reason, Sealed
from broker.wire.terms import Action, Handling, HandlingCode, Purpose, Target, Tlp
from support.coalition import (
    BORDER,
    CARE,
    JUSTICE,
    KAS,
    POLICE_A,
    POLICE_B,
    REHAB,
    receiving_key,
    signing_key,
)
from support.forgery import remade
from support.simulator import Simulator
from support.world import World

STRANGER = signing_key("stranger")
JUNK = b"j" * 1168


# who signs


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"key": STRANGER}, Kind.UNACCOUNTED),
        ({"key": signing_key(POLICE_A)}, Kind.UNACCOUNTED),
        ({"key": signing_key(KAS)}, Kind.UNACCOUNTED),
        ({"issuer": "XZZ:nobody"}, Kind.UNACCOUNTED),
        ({"issuer": KAS}, Kind.NOT_ENTITLED),
        ({"issuer": "auditor"}, Kind.NOT_ENTITLED),
        ({"issuer": "authority", "key": signing_key("authority 0")}, Kind.UNACCOUNTED),
        ({"manifest": {"signed_for": b"E" * 32}}, Kind.UNACCOUNTED),
        ({"partition": 1, "topic": "returns"}, Kind.NOT_ENTITLED),
        ({"named_type": "Unknown"}, Kind.NOT_ENTITLED),
    ],
    ids=[
        "N: a stranger's key", "M: a colleague's name", "M: the service's key", "N: nobody", "K: publishes",
        "auditor: publishes", "A: publishes", "15: an exercise's signature", "N: member elsewhere", "no type",
    ],
)  # fmt: skip
def test_who_may_not_sign(world: Simulator, how: dict[str, Any], kind: Kind) -> None:
    """A batch is void when its issuer may not publish here or its signature is not the issuer's."""
    place = world.publish(**how)
    world.must_be_void(kind, place)


# 13, 17: any header field


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"directory_size": 999}, Kind.VIEW_UNKNOWN),
        ({"directory_size": 2**62}, Kind.VIEW_UNKNOWN),
        ({"directory_size": -1}, Kind.VIEW_UNKNOWN),
        ({"directory_root": bytes(32)}, Kind.VIEW_UNKNOWN),
        ({"sequence": 5}, Kind.STREAM_GAP),
        ({"sequence": 2**62}, Kind.STREAM_GAP),
        ({"sequence": -1}, Kind.STREAM_REPLAYED),
        ({"previous": b"x" * 32}, Kind.STREAM_FORK),
        ({"issued_at": 0}, Kind.TERMS_INVALID),
        ({"issued_at": 2**62}, Kind.TERMS_INVALID),
        ({"issued_at": -(2**62)}, Kind.TERMS_INVALID),
    ],
)
def test_any_header_field(world: Simulator, header: dict[str, Any], kind: Kind) -> None:
    """13: A batch with a false header field is reported by the auditor and by the subscriber."""
    place = world.publish(header=header)
    report, given = world.observe()
    found = [entry.violation for entry in report.violations]
    assert [(violation.kind, violation.place) for violation in found if violation.caused_by is None] == [
        (kind, place)
    ]
    assert kind in [item.kind for item in given if isinstance(item, Violation)]


def test_a_view_from_before_everything(world: Simulator) -> None:
    """11: A batch that refers to an empty directory is void, since that entitles nobody."""
    place = world.publish(
        record_type="RelocationEvent", header={"directory_size": 0, "directory_root": sha256().digest()}
    )
    world.must_be_void(Kind.NOT_ENTITLED, place)


@pytest.mark.parametrize(
    "header", [{"topic": "relocation"}, {"partition": 1}, {"epoch": 1}, {"topic": "access"}],
    ids=["topic", "partition", "epoch", "access"],
)  # fmt: skip
def test_a_header_of_another_place(world: Simulator, header: dict[str, Any]) -> None:
    """17: A batch is void when its signed header names another place than it is sealed for."""
    place = world.publish(elsewhere=header)
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


def test_a_statement_of_another_channel_sealed_again(world: Simulator) -> None:
    """17: A member seals a signed manifest of channel 1 again for channel 0."""
    place = world.run(lambda w: sealed_again(w, "returns", 1, ("returns", 0, 0)))
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


def test_a_statement_of_an_old_epoch_sealed_again(world: Simulator) -> None:
    """17: A member seals a colleague's manifest of epoch 0 again for epoch 1."""
    world.suspend(CARE)  # a new epoch needs a reason, unless an hour has passed
    world.next_epoch()
    place = world.run(lambda w: sealed_again(w, "returns", 0, ("returns", 0, 1)))
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


# the entries and the plaintext


@pytest.mark.parametrize(
    "manifest",
    [
        {"trailing": b"\0"},
        {"padding": 256},
        {"count": 1},
        {"count": 0},
        {"count": -1},
        {"count": 257},
        {"entries_root": bytes(32)},
        {"manifest_id": bytes(16)},
        {"entries": {"salts": b""}},
        {"entries": {"term_of": b"\x00\x01"}},
        {"entries": {"term_of": b"\x00" * 256}},
        {"entries": {"digests": bytes(64)}},
        {"entries": {"record_ids": bytes(31)}},
        {"entries": {"terms": ()}},
    ],
)
def test_a_manifest_that_lies_about_itself(world: Simulator, manifest: dict[str, Any]) -> None:
    """26: A manifest is void when its sizes, columns or padding do not fit."""
    place = world.publish(manifest=manifest)
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


def test_bytes_that_become_twenty_million_items(world: Simulator) -> None:
    """26: A manifest that declares an Avro array of 20 million empty items is void."""
    place = world.publish(manifest={"plain": b"\x10manifest" + b"\x00" + b"\x80\xda\xc4\x09" * 8})
    world.must_be_void(Kind.MANIFEST_MALFORMED, place)


# 18: bodies


def test_too_few_bodies(world: Simulator) -> None:
    """18: A batch with one body of two is void, and it is reported where the log ends."""
    place = world.publish(messages=lambda m: m[:2])
    world.must_report(Kind.BATCH_UNFINISHED, place._replace(offset=28))


def test_too_few_bodies_before_a_good_batch(world: Simulator) -> None:
    """18: After an incomplete batch, reading resumes at the first message that does not fit."""
    world.publish(messages=lambda m: m[:2])
    row = [world.row(Place("returns", 0, i)) for i in (24, 25)]
    world.append("returns", 0, *[(r.key, r.value) for r in row])
    world.must_report(Kind.MANIFEST_COPIED, Place("returns", 0, 28))


def test_too_many_bodies(world: Simulator) -> None:
    """18: A third body behind a batch of two is unaccounted for, and the batch is still delivered."""
    placed = world.forge(messages=lambda m: [*m, (m[0][0] + b"\0\0\0\2", b"\x02more")])
    report, given = world.observe()
    roots = [(v.violation.kind, v.violation.place.offset) for v in report.violations]
    assert roots == [(Kind.UNACCOUNTED, placed.place.offset + 3)]
    assert sum(getattr(item, "batch_id", b"") == placed.batch.batch_id for item in given) == 2


def test_other_bodies(world: Simulator) -> None:
    """18: A batch is void when one of its bodies is not the body that was signed."""
    place = world.publish(messages=lambda m: [m[0], (m[1][0], m[1][1] + b"x"), m[2]])
    world.must_be_void(Kind.BODY_ALTERED, place._replace(offset=place.offset + 1))


def test_a_stream_goes_on_behind_a_void_batch(world: Simulator) -> None:
    """18: The batch that follows a void batch in its stream is delivered."""
    first = world.forge(messages=lambda m: m[:1] + m[2:])
    second = world.forge(header=first.next())
    given = world.read()
    assert sum(getattr(item, "batch_id", b"") == second.batch.batch_id for item in given) == 2


# 19: what only who unlocks can see


def test_wrong_release_secret(world: Simulator) -> None:
    """19: The service refuses a batch whose release secret is not the secret that locked it."""
    place = world.publish(release_secret=b"w" * 32)
    world.must_withhold(place, Reason.NOT_COLLECTED)


@pytest.mark.parametrize("secret", [b"", b"short", b"l" * 33, b"x" * 5000])
def test_release_secret_of_another_size(world: Simulator, secret: bytes) -> None:
    """19: The service refuses a batch whose release secret has the wrong length."""
    place = world.publish(release_secret=secret)
    world.must_withhold(place, Reason.NOT_COLLECTED)


def test_junk_in_place_of_the_release_seal(world: Simulator) -> None:
    """19: The service refuses a batch that has junk in place of its release seal."""
    place = world.publish(manifest={"release_seal": JUNK})
    world.must_withhold(place, Reason.NOT_COLLECTED)


def test_junk_in_place_of_the_member_share(world: Simulator) -> None:
    """19: A named subscriber reports junk in place of the member share once for the batch."""
    key_ids = [receiving_key(name).key_id for name in (POLICE_B, CARE)]
    place = world.publish(
        terms={"handling": replace(HANDLING, releasable_to=(POLICE_B,))},
        manifest={"member_seals": tuple(Sealed(key_id=key_id, sealed=JUNK) for key_id in key_ids)},
    )
    world.must_blame(Kind.MEMBER_SEAL, place)


def test_commitment_to_another_text(world: Simulator) -> None:
    """19: A subscriber reports a body that the issuer's commitment does not fit."""
    place = world.publish(count=1, manifest={"entries": {"commitments": bytes(32)}, "reroot": True})
    world.must_blame(Kind.BODY_LOCKED, place._replace(offset=place.offset + 1))


@pytest.mark.parametrize("body", [b"junk", b"\x00" * 40, b"\xff" * 200, b""])
def test_a_body_that_is_no_record(world: Simulator, body: bytes) -> None:
    """26: A subscriber reports a body that does not decode by its schema."""
    place = world.publish(count=1, bodies=[body])
    world.must_blame(Kind.RECORD_INVALID, place._replace(offset=place.offset + 1))


def test_a_record_that_breaks_the_rules(world: Simulator) -> None:
    """A subscriber reports a record that breaks a rule of its type."""
    place = world.publish(count=1, broken={"subject.ref": "no uuid"})
    world.must_blame(Kind.RECORD_INVALID, place._replace(offset=place.offset + 1))


def test_a_schema_of_another_topic(world: Simulator) -> None:
    """A subscriber reports a batch that names the schema of another record type."""
    place = world.publish(schema=default_store().current("JusticeMeasure").id)
    world.must_blame(Kind.SCHEMA_MISMATCH, place)


def test_a_record_type_of_another_topic(world: Simulator) -> None:
    """A subscriber reports a batch of justice records in the topic of returns."""
    place = world.publish(record_type="JusticeMeasure", topic="returns")
    world.must_blame(Kind.SCHEMA_MISMATCH, place)


# 1, 2: another's names


def test_copied_manifest_id(world: Simulator) -> None:
    """1: Shares for a batch with a copied manifest_id have nothing in common with the victim's shares."""
    victim = world["family 1"]
    key = world.row(victim.place).key
    assert key is not None
    placed = world.forge(
        issuer=POLICE_B, draw=Secrets(manifest_id=key, member_share=bytes(32), release_secret=b"\x01" * 32)
    )
    answer = world.ask(POLICE_B, placed.item(0))
    own = world.ask(POLICE_B, victim.item(0))
    assert set(answer.shares.values()).isdisjoint(own.shares.values())
    assert world.replay().verified


def test_copied_release_seal(world: Simulator) -> None:
    """1: The service refuses a batch that carries another issuer's release seal."""
    victim = world.forge(issuer=CARE)
    place = world.publish(
        issuer=POLICE_B,
        draw=replace(victim.draw, release_secret=bytes(32)),
        manifest={"release_seal": victim.batch.manifest.release_seal},
    )
    given = world.read()
    withheld = [item for item in given if getattr(item, "place", None) == place]
    assert {getattr(item, "reason", None) for item in withheld} == {Reason.NOT_COLLECTED}
    assert world.replay().verified


def test_erasing_a_namesake(world: Simulator) -> None:
    """2: A member that erases its batch with a copied manifest_id leaves the victim's records untouched."""
    key = world.row(world["family 1"].place).key
    assert key is not None
    namesake = world.forge(
        issuer=POLICE_B,
        count=1,
        draw=Secrets(manifest_id=key, member_share=bytes(32), release_secret=b"\x01" * 32),
    )
    world.order(POLICE_B, Action.ERASE, namesake.batch.batch_id)
    denied = world.ask(CARE, namesake.item(0))
    assert {outcome.reason for outcome in denied.outcomes.values()} == {Reason.ERASED}
    assert all(
        outcome.released for outcome in world.ask(CARE, world["family 1"].item(0, 1, 2)).outcomes.values()
    )


@pytest.mark.parametrize("action", [Action.ERASE, Action.WITHDRAW, Action.RESTRICT, Action.RECTIFY])
def test_orders_on_anothers_records(world: Simulator, action: Action) -> None:
    """2: A member's order on another agency's record has no effect."""
    world.order(BORDER, action, world["family 1"].batch_id)
    assert all(
        outcome.released for outcome in world.ask(CARE, world["family 1"].item(0, 1, 2)).outcomes.values()
    )
    assert world.replay().verified


# 9: streams


def test_streams_without_end(world: Simulator) -> None:
    """9: A member may start a new stream with each of 70 batches, and the log verifies."""

    world.many(70, count=1)
    report = world.replay()
    assert report.verified, report.violations


def test_the_stream_that_had_to_close(world: Simulator) -> None:
    """9: A stream closes after 64 newer streams, and its next batch is reported and not delivered."""
    first = world.forge(issuer=CARE, count=1)

    world.many(64, count=1)
    place = world.publish(issuer=CARE, header=first.next())
    world.must_report(Kind.STREAM_CLOSED, place, delivers=False)


def test_two_statements_in_one_place_of_a_stream(world: Simulator) -> None:
    """The second of two statements with one sequence number is reported as a fork."""
    first = world.forge(issuer=CARE)
    place = world.publish(issuer=CARE, header={"stream": first.batch.manifest.header.stream})
    world.must_report(Kind.STREAM_FORK, place, delivers=False)


def test_another_agencys_stream(world: Simulator) -> None:
    """A stream id belongs to its issuer, so another agency that uses the same id disturbs nothing."""
    first = world.forge(issuer=CARE)
    world.forge(issuer=BORDER, header={"stream": first.batch.manifest.header.stream})
    world.forge(issuer=CARE, header=first.next())
    assert world.replay().verified


# the terms


HANDLING = Handling(codes=(), tlp=Tlp.AMBER, releasable_to=())


@pytest.mark.parametrize(
    "terms",
    [
        {"erase_by": 2**31 - 1},
        {"review_by": 0},
        {"purpose": Purpose.LAWFULNESS},
        {"action": Action.ERASE},
        {"targets": (Target(batch_id=bytes(32), index=0),)},
        {"action": Action.ERASE, "targets": (Target(batch_id=bytes(32), index=256),)},
        {"action": Action.ERASE, "targets": (Target(batch_id=bytes(32), index=-1),)},
        {"handling": replace(HANDLING, codes=(HandlingCode.H2, HandlingCode.H1))},
        {"handling": replace(HANDLING, codes=(HandlingCode.H1, HandlingCode.H1))},
        {"handling": replace(HANDLING, releasable_to=(POLICE_B, POLICE_A))},
        {"handling": replace(HANDLING, releasable_to=("XZZ:nobody",))},
        {"handling": replace(HANDLING, releasable_to=(POLICE_B,))},
    ],
)
def test_terms_that_no_channel_allows(world: Simulator, terms: dict[str, Any]) -> None:
    """A batch is void when the channel does not allow its terms."""
    place = world.publish(terms=terms)
    world.must_be_void(Kind.TERMS_INVALID, place)


def test_a_secret_copy_of_the_member_share(world: Simulator) -> None:
    """20: A batch is void when it seals the member share to a stranger."""
    key = receiving_key("stranger")
    place = world.publish(members=[(key.key_id, key.public)])
    world.must_be_void(Kind.TERMS_INVALID, place)


def test_an_intake_key_of_ones_own(world: Simulator) -> None:
    """20: A batch is void when its intake key was never announced."""
    place = world.publish(manifest={"intake_key_id": secrets.token_bytes(32)})
    world.must_be_void(Kind.TERMS_INVALID, place)


# 11, 23c: yesterday's keys, yesterday's epochs


def test_a_suspended_agency(world: Simulator) -> None:
    """A batch of a suspended agency that has seen its suspension is void."""
    world.suspend(CARE)
    place = world.publish(issuer=CARE)
    world.must_be_void(Kind.NOT_ENTITLED, place)


def test_a_suspended_agency_that_saw_nothing(world: Simulator) -> None:
    """11: The service refuses a suspended agency's batch that refers to an older directory."""
    before = world.directory()
    world.suspend(CARE)
    place = world.publish(issuer=CARE, view=before)
    world.must_withhold(place, Reason.NOT_COLLECTED)


def test_a_suspended_agency_behind_a_newer_statement(world: Simulator) -> None:
    """11: Such a batch is stale where a newer batch has already seen the suspension: nobody is given it."""
    before = world.directory()
    world.suspend(CARE)
    world.forge(issuer=BORDER)
    place = world.publish(issuer=CARE, view=before)
    world.must_be_stale(place, CARE)


def test_a_revoked_key(world: Simulator) -> None:
    """11: The service refuses a batch that is signed with a revoked key and refers to an older directory."""
    before = world.directory()
    world.say(revoked, CARE)
    place = world.publish(issuer=CARE, view=before)
    world.must_withhold(place, Reason.NOT_COLLECTED)


def test_an_epoch_superseded_twice(world: Simulator) -> None:
    """23c: A batch under an epoch that was superseded twice is reported."""
    world.suspend(JUSTICE)  # a new epoch needs a reason, unless an hour has passed
    world.next_epoch()
    world.suspend(REHAB)
    world.next_epoch()
    world.forge(issuer=BORDER)
    place = world.publish(issuer=CARE, sealed_epoch=0)
    world.must_report(Kind.EPOCH_SUPERSEDED, place, delivers=False)


def test_garbage_under_an_old_epoch(world: Simulator) -> None:
    """23c: Garbage under an epoch that does not exist is reported."""
    place = world.append("returns", 0, (b"k" * 16, b"\x01\x00\x00\x00\x07" + bytes(2000)))
    world.must_be_void(Kind.EPOCH_UNKNOWN, place)


# helpers


def revoked(directory: Directory, now: int) -> Statement:
    """The agency's statement that its key is revoked."""
    key = signing_key(CARE)
    return drafts.revoke_key(directory, party=CARE, key_id=key.key_id, since=directory.size, issued_at=now)


async def sealed_again(world: World, topic: str, partition: int, place: tuple[str, int, int]) -> Place:
    """A partition's first batch, whose signed manifest a member seals again for another place."""
    stored = [m async for m in world.log.read(Partition(topic, partition), 0)]
    messages = tuple((m.key or b"", m.value or b"") for m in stored[:4])
    name = world.coalition.directory.numbers[partition]
    envelope = parse_envelope(*messages[0])
    assert envelope is not None
    keys = world.coalition.epoch_keys(name, 0, POLICE_B)["metadata"].keys
    opened = open_manifest(envelope, topic=topic, partition=partition, keys=keys)
    assert opened is not None
    plain = encode(ManifestPlaintext(signed=opened.signed, entries=opened.entries))
    batch = Batch(batch_id=opened.batch_id, manifest=opened.manifest, messages=messages)
    again = remade(world, batch, plain=plain, place=place)
    offset = await world.log.append(Partition(*place[:2]), [Message(*message) for message in again.messages])
    return Place(*place[:2], offset)
