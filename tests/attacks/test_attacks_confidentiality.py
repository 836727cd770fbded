"""Attacks 27 and 28: no party opens a body with its own keys and every byte of the log."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from broker.clock import system_clock
from broker.crypto.lock import check_release_share, release_share
from broker.crypto.seal import ReceivingKey
from broker.directory import EpochKey
from broker.services.kas.entries import month_of
from broker.services.kas.keystore import KeyStore
from broker.subscribe.subscriber import Delivered
from broker.verify.violations import Place
from support.adversary import Loot
from support.asking import hostile_request, post
from support.coalition import AUDITOR, CARE, KAS, POLICE_A, POLICE_B, REHAB, Coalition, receiving_key
from support.log_file import Row
from support.played import played
from support.simulator import Simulator
from support.world import PASSPHRASE, World

PERSON = "officer-8c1f"
CASE = "CASE-77-QX"
WHY = "because of the Kestrel inquiry"
SECRET_WORDS = (PERSON, CASE, WHY)


def seeds_of(coalition: Coalition, name: str) -> list[EpochKey]:
    """The keys of every epoch whose halves were sealed to a party."""
    return [
        key
        for channel, state in coalition.directory.channels.items()
        for epoch in state.epochs
        for key in coalition.epoch_keys(channel, epoch, name).values()
    ]


def messages(path: Path) -> list[Row]:
    """Every message in the log's file, including those of the key access service's own topic."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT topic, partition, offset, key, value, appended_at FROM message").fetchall()
    return [Row(row[0].removeprefix("ftf."), *row[1:]) for row in found]


@dataclass(frozen=True, slots=True)
class Seen:
    """The log's raw bytes while it is open, its messages, and the coalition that holds the keys."""

    raw: bytes
    rows: list[Row]
    coalition: Coalition
    store: KeyStore
    words: frozenset[bytes]
    record_ids: frozenset[bytes]

    def loot(self, *names: str, more: Iterable[ReceivingKey] = (), **options: Any) -> Loot:
        """Everything that opens with the keys of these parties together and the further keys."""
        keys = [*map(receiving_key, names), *more]
        seeds = [seed for name in names for seed in seeds_of(self.coalition, name)]
        return Loot.of(self.rows, self.coalition.genesis, keys, seeds, **options)

    def intake(self) -> list[ReceivingKey]:
        """The service's intake keys that it still keeps."""
        keys = self.coalition.intake.items()
        return [key for day, key in keys if self.store.intake_key(day, key.key_id) is not None]

    def months(self) -> dict[int, bytes]:
        """The service's access keys of this month, by channel number."""
        month = month_of(system_clock())
        return {n: key for n in range(3) if (key := self.store.kept_access_key(month, n)) is not None}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The played log with one more access, whose details hold words that stand nowhere else."""
    world = Simulator.copy(tmp_path_factory.mktemp("seen"))

    async def consulted(w: World) -> tuple[bytes, Coalition, list[Any]]:
        given = [item for item in await w.read(POLICE_B) if isinstance(item, Delivered)]
        details = {"person": PERSON, "case_reference": CASE, "justification": WHY}
        await post(w, POLICE_B, hostile_request(w, POLICE_B, [world["family 1"].item(0)], details=details))
        raw = b"".join(path.read_bytes() for path in sorted(world.folder.glob("log.db*")))
        assert len(list(world.folder.glob("log.db*"))) == 3, "the file is read with its WAL"
        return raw, w.coalition, given

    raw, coalition, given = world.run(consulted)
    rows = messages(world.path)
    public = b"".join(row.value or b"" for row in rows if row.topic == "directory")
    words = {word for item in given for word in _words(item.record.body)} | set(SECRET_WORDS)
    return Seen(
        raw=raw,
        rows=rows,
        coalition=coalition,
        store=KeyStore(world.folder / "kas", coalition.genesis, coalition.keys_of(KAS), PASSPHRASE),
        words=frozenset(form for word in words for form in _forms(word) if form not in public),
        record_ids=frozenset(item.record_id for item in given),
    )


def _words(value: object) -> Iterable[str]:
    """Every text of more than four characters in a record, whatever its field."""
    match value:
        case str() if len(value) > 4:
            yield value
        case dict():
            for part in value.values():
                yield from _words(part)
        case list() | tuple():
            for part in value:
                yield from _words(part)


def _forms(word: str) -> Iterable[bytes]:
    """A word as bytes; a UUID also as its sixteen bytes, as its hexadecimal digits, and in base64."""
    yield word.encode()
    if len(word) == 36 and word.count("-") == 4:
        yield UUID(word).bytes
        yield UUID(word).hex.encode()
        yield base64.b64encode(UUID(word).bytes)[:20]


def found_in(seen: Seen, data: bytes) -> set[bytes]:
    """The words of records and of access details that these bytes contain."""
    return {word for word in seen.words if word in data}


def records(loot: Loot) -> set[Place]:
    """The places of the record bodies that opened, without those of the access log."""
    return {place for place in loot.bodies if place.topic != "access"}


def test_both_together_open_everything(seen: Seen) -> None:
    """A member and the service together open everything, so the attacks below could succeed."""
    loot = seen.loot(POLICE_B, KAS, more=seen.intake(), months=seen.months())
    assert len(records(loot)) == 19
    assert len(seen.words) > 30
    assert found_in(seen, loot.text) >= {PERSON.encode(), CASE.encode(), WHY.encode()}
    assert len(found_in(seen, loot.text)) > 20


def test_nothing_is_in_the_file(seen: Seen) -> None:
    """27: The operator finds no text of a record or an access, and no record id, in the log's files."""
    assert b"XAA:police" in seen.raw, "the directory is public, so this finds what is there"
    assert found_in(seen, seen.raw) == set()
    assert not {record_id for record_id in seen.record_ids if record_id in seen.raw}


def test_a_stranger(seen: Seen) -> None:
    """27: A stranger from another coalition opens no manifest with its own keys."""
    loot = Loot.of(seen.rows, seen.coalition.genesis, [receiving_key("stranger")])
    assert (loot.manifests, loot.member_shares, loot.release_secrets, loot.bodies) == ({}, {}, {}, {})


def test_a_member_of_another_channel(seen: Seen) -> None:
    """27: A member of one channel learns nothing about a channel that it has not joined."""
    loot = seen.loot(CARE)
    assert {place.partition for place in loot.manifests} == {0}
    assert loot.bodies == {}
    assert found_in(seen, loot.text) == set()


def test_an_auditor(seen: Seen) -> None:
    """27: The auditor opens every manifest, but no share of a record and no detail of an access."""
    loot = seen.loot(AUDITOR)
    manifests = [row for row in seen.rows if row.key is not None and len(row.key) == 16]
    assert len(loot.manifests) == len([row for row in manifests if row.topic != "directory"])
    assert {place.topic for place in loot.member_shares} == {"access"}
    assert loot.release_secrets == {}
    assert loot.bodies == {}
    assert found_in(seen, loot.text) == set()
    assert all(record_id in loot.text for record_id in seen.record_ids), (
        "record ids are what an auditor may see"
    )


def test_the_service_alone(seen: Seen) -> None:
    """27: The service with its key store has every release share, and still opens no body of a record."""
    loot = seen.loot(KAS, more=seen.intake(), store=seen.store, months=seen.months())
    batches = [place for place in loot.manifests if place.topic != "access"]
    assert set(batches) <= loot.release_secrets.keys()
    for place in batches:
        entries = loot.manifests[place].entries
        context = loot.context(loot.manifests[place])
        share = release_share(context, loot.release_secrets[place], 0)
        check_release_share(context, 0, share, entries.release_checks[:32])
    assert not [place for place in loot.member_shares if place.topic != "access"]
    assert records(loot) == set()
    of_accesses = {word.encode() for word in SECRET_WORDS}
    assert of_accesses <= found_in(seen, loot.text), "the details of accesses are what it may read"
    assert found_in(seen, loot.text) == of_accesses


def test_a_member_alone(seen: Seen) -> None:
    """27: A member opens every member share of its channels, but no body without the release share."""
    loot = seen.loot(POLICE_B)
    mine = {place for place in loot.manifests if place.partition in (0, 1)}
    assert {place for place in mine if place.topic != "access"} == loot.member_shares.keys()
    assert (loot.release_secrets, loot.bodies) == ({}, {})
    assert found_in(seen, loot.text) == set()


def test_all_members_and_the_auditor_together(seen: Seen) -> None:
    """27: All members and the auditor together open no body without the service."""
    loot = seen.loot(AUDITOR, POLICE_A, POLICE_B, CARE, REHAB)
    assert len(loot.member_shares) == len(loot.manifests)
    assert loot.bodies == {}


def test_who_is_not_on_the_list(seen: Seen) -> None:
    """20: A member that releasable_to leaves out cannot open the share, even with the service's keys."""
    loot = seen.loot(CARE, KAS, more=seen.intake())
    other = seen.loot(REHAB, KAS, more=seen.intake())
    place = played().batches["releasable"].place
    assert place in loot.member_shares, "its issuer may"
    assert place not in other.member_shares
    assert place._replace(offset=place.offset + 1) not in other.bodies


def test_after_the_services_keys_are_gone(tmp_path: Path) -> None:
    """4, 27: After intake and storage keys are destroyed, a copy of the log opens for nobody."""
    world = Simulator.copy(tmp_path)
    coalition = world.run(_coalition)
    store = KeyStore(world.folder / "kas", coalition.genesis, coalition.keys_of(KAS), PASSPHRASE)
    rows = messages(world.path)
    days = [int(path.name) for path in (world.folder / "kas/storage").iterdir()]
    for day in coalition.intake:
        store.destroy_intake_key(day)
    for day in days:
        store.destroy_storage_key(day)
    keys = [receiving_key(name) for name in (POLICE_B, KAS)]
    seeds = [seed for name in (POLICE_B, KAS) for seed in seeds_of(coalition, name)]
    fresh = KeyStore(world.folder / "kas", coalition.genesis, coalition.keys_of(KAS), PASSPHRASE)
    loot = Loot.of(rows, coalition.genesis, keys, seeds, store=fresh)
    assert loot.member_shares
    assert loot.release_secrets == {}
    assert loot.bodies == {}
    assert world.replay().verified, "the logs still verify"


async def _coalition(world: World) -> Coalition:
    return world.coalition


def test_no_share_is_on_a_subscribers_disk(world: Simulator, tmp_path: Path) -> None:
    """23a: A subscriber's state file and receipts hold no share in any form."""
    state = tmp_path / "state.json"
    given = world.read(state=state)
    assert any(isinstance(item, Delivered) for item in given)
    answers = [world.ask(POLICE_B, world[name].item(0)) for name in ("family 1", "single 1", "last")]
    disk = b"".join(path.read_bytes() for path in tmp_path.glob("state.json*"))
    assert len(disk) > 1000
    lines = (tmp_path / "state.json.receipts").read_text().splitlines()
    plain = b"".join(base64.b64decode(part) for line in lines for part in json.loads(line).values())
    for share in (share for answer in answers for share in answer.shares.values()):
        for form in (share, share.hex().encode(), base64.b64encode(share)[:42]):
            assert form not in disk
            assert form not in plain


def test_nothing_is_guessed_from_digests(seen: Seen) -> None:
    """28: No two records share an id, a digest, a salt or a commitment."""
    loot = seen.loot(AUDITOR)
    for column, size in (("record_ids", 16), ("digests", 32), ("salts", 16), ("commitments", 32)):
        cells = []
        for place, opened in loot.manifests.items():
            data = getattr(opened.entries, column) if place.topic != "access" else b""
            cells += [data[i : i + size] for i in range(0, len(data), size)]
        assert len(set(cells)) == len(cells) == 21


def test_lengths_tell_little(seen: Seen) -> None:
    """28: Bodies are padded to a multiple of 512 bytes, so that bodies of similar length look the same."""
    sizes = {
        len(row.value or b"") for row in seen.rows if row.topic == "returns" and len(row.key or b"") == 20
    }
    assert {(size - 1 - 16) % 512 for size in sizes} == {0}
