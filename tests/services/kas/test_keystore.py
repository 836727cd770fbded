"""The key store: keys are made once, are private, and are gone when they are destroyed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.crypto.lock import release_shares
from broker.crypto.seal import ReceivingKey
from broker.directory import drafts
from broker.errors import KeyFileError, OpenError
from broker.services.kas.custody import open_held, seal_held, without_erased
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.wire.access import HeldRelease, ReleaseShare
from broker.wire.statements import ServiceKeyAnnounced
from support.coalition import KAS, Coalition, receiving_key, signing_key

GENESIS = bytes(32)


def store(folder: Path, *, name: str = KAS, genesis: bytes = GENESIS, passphrase: bytes = b"p") -> KeyStore:
    """Open a key store that is sealed to this party's receiving key."""
    key = receiving_key(name)
    return KeyStore(folder / "keys", genesis, {key.key_id: key}, passphrase)


def files(folder: Path) -> list[Path]:
    """Return every file of the store."""
    return sorted(path for path in (folder / "keys").rglob("*") if path.is_file())


def test_keys_are_drawn_once_and_found_again(tmp_path: Path) -> None:
    """Another process, or the same one after a restart, finds the keys that were made."""
    first = store(tmp_path)
    second = store(tmp_path)
    assert first.storage_key(7).key == second.storage_key(7).key
    assert first.access_key("2026-05", 1) == second.access_key("2026-05", 1)
    assert second.storage_key_by_id(first.storage_key(8).id) == first.storage_key(8)
    assert second.storage_key_by_id(bytes(32)) is None
    keys = {first.storage_key(7).key, first.storage_key(8).key, first.storage_key(7).id}
    keys |= {first.access_key(month, channel) for month in ("2026-05", "2026-06") for channel in (0, 1)}
    assert len(keys) == 7


def test_of_many_processes_the_first_wins(tmp_path: Path) -> None:
    """However many processes make a key at once, all of them get the same key."""
    stores = [store(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda opened: opened.storage_key(1).key, stores))
        access = list(pool.map(lambda opened: opened.access_key("2026-05", 3), stores))
    assert len(set(keys)) == len(set(access)) == 1
    assert len(files(tmp_path)) == 2


def test_files_are_private_and_sealed(tmp_path: Path) -> None:
    """Folders 0700, files 0600, and no key in the clear; a folder that others can enter is refused."""
    keys = store(tmp_path)
    secrets = [keys.storage_key(1).key, keys.access_key("2026-05", 0)]
    keys.add_intake_key(1, ReceivingKey.generate())
    assert len(files(tmp_path)) == 3
    for path in files(tmp_path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert not any(secret in path.read_bytes() for secret in secrets)
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(KeyFileError, match="others can enter"):
        store(tmp_path)


def test_the_wrong_key_opens_nothing(tmp_path: Path) -> None:
    """Another receiving key, passphrase or coalition, or an altered file, is named and opens nothing."""
    keys = store(tmp_path)
    keys.storage_key(1)
    kept = keys.add_intake_key(1, ReceivingKey.generate())
    with pytest.raises(KeyFileError, match="not at hand"):
        store(tmp_path, name="another").storage_key(1)
    with pytest.raises(KeyFileError, match="altered"):
        store(tmp_path, genesis=b"\1" * 32).storage_key(1)
    with pytest.raises(KeyFileError, match="passphrase"):
        store(tmp_path, passphrase=b"wrong").intake_key(1, kept.key_id)
    os.link(tmp_path / "keys" / "storage" / "1", tmp_path / "keys" / "storage" / "2")
    with pytest.raises(KeyFileError, match="altered"):
        store(tmp_path).storage_key(2)
    with pytest.raises(KeyFileError, match="no receiving key"):
        KeyStore(tmp_path / "other", GENESIS, {}, b"p")


def test_what_is_destroyed_is_gone(tmp_path: Path) -> None:
    """A destroyed key is not found, and a new one is another key; an intake key leaves a mark."""
    keys = store(tmp_path)
    kept = keys.add_intake_key(1, ReceivingKey.generate())
    keys.add_intake_key(1, ReceivingKey.generate(), number=1)
    old = keys.storage_key(1)
    month = keys.access_key("2026-05", 0)
    keys.destroy_storage_key(1)
    keys.destroy_access_key("2026-05", 0)
    keys.destroy_intake_key(1)
    keys.destroy_intake_key(1)
    assert [path.name for path in files(tmp_path)] == ["1.destroyed"]
    assert keys.storage_key_by_id(old.id) is None
    assert keys.kept_access_key("2026-05", 0) is None
    assert keys.intake_key(1, kept.key_id) is None
    assert keys.is_intake_destroyed(1)
    with pytest.raises(KeyFileError, match="was destroyed"):
        keys.add_intake_key(1, ReceivingKey.generate())
    assert keys.storage_key(1).key != old.key
    assert keys.access_key("2026-05", 0) == keys.kept_access_key("2026-05", 0) != month


def announcement(keys: KeyStore, coalition: Coalition) -> ServiceKeyAnnounced:
    return keys.announcement(coalition.directory, KAS, coalition.day + 2, coalition.now)


def test_an_intake_key_is_the_same_until_it_is_announced(tmp_path: Path) -> None:
    """A statement that was not appended is made again with the same key."""
    coalition = Coalition.create(days=2)
    keys = KeyStore(tmp_path / "keys", coalition.genesis, coalition.keys_of(KAS), b"p")
    first = announcement(keys, coalition)
    assert announcement(keys, coalition).public_key == first.public_key
    coalition.add(first, signing_key(KAS))
    announced = coalition.directory.intake_key(coalition.day + 2)
    assert announced is not None
    assert keys.intake_key(announced.day, announced.key_id) is not None
    assert keys.intake_key(announced.day, bytes(32)) is None


def test_a_day_whose_key_fell_gets_another_one(tmp_path: Path) -> None:
    """No key is registered twice, so a revoked key is never announced again; it is kept, by its id."""
    coalition = Coalition.create(days=2)
    keys = KeyStore(tmp_path / "keys", coalition.genesis, coalition.keys_of(KAS), b"p")
    first = announcement(keys, coalition)
    coalition.add(first, signing_key(KAS))
    old = coalition.directory.intake_days[KAS, coalition.day + 2]
    coalition.add(
        drafts.revoke_key(
            coalition.directory,
            party=KAS,
            key_id=old,
            since=coalition.directory.size,
            issued_at=coalition.now,
            by_authority=True,
        ),
        *coalition.authority_keys,
    )
    second = announcement(keys, coalition)
    assert second.public_key != first.public_key
    assert announcement(keys, coalition).public_key == second.public_key
    coalition.add(second, signing_key(KAS))
    new = coalition.directory.intake_days[KAS, coalition.day + 2]
    for key_id in (old, new):
        assert keys.intake_key(coalition.day + 2, key_id) is not None
    assert keys.intake_days() == [coalition.day + 2]


def test_the_first_intake_key_of_a_day_is_kept(tmp_path: Path) -> None:
    """A second key for the same day does not replace the first."""
    keys = store(tmp_path)
    first = keys.add_intake_key(1, ReceivingKey.generate())
    assert keys.add_intake_key(1, ReceivingKey.generate()).key_id == first.key_id


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are synced from now on, in order."""
    folders: list[Path] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            folders.append(path)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    return folders


def test_new_folders_and_keys_survive_a_power_cut(tmp_path: Path, synced: list[Path]) -> None:
    """The name of each new folder and each new key is durable, and so is the removal of a key."""
    keys = store(tmp_path)
    assert set(synced) == {tmp_path, tmp_path / "keys"}
    synced.clear()
    keys.storage_key(1)
    assert synced[-1] == tmp_path / "keys" / "storage"
    keys.add_intake_key(1, ReceivingKey.generate())
    assert synced[-1] == tmp_path / "keys" / "intake"
    synced.clear()
    keys.destroy_storage_key(1)
    assert synced == [tmp_path / "keys" / "storage"]


def test_a_new_journal_survives_a_power_cut(tmp_path: Path, synced: list[Path]) -> None:
    """The name of a new journal is durable before anything is written to it."""
    with Journal(tmp_path / "journal.db"):
        assert synced == [tmp_path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the folder's place is a KeyFileError that names the key store."""
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(KeyFileError, match=r"cannot use '.*keys' as a key store"):
        store(tmp_path)


# what is held in ftf.keys


def test_held_values_are_bound_to_batch_and_key(tmp_path: Path) -> None:
    """A value opens for its batch under its storage key, and for nothing else."""
    keys = store(tmp_path)
    key = keys.storage_key(1)
    held = HeldRelease(release_secret=b"s" * 32, shares=())
    value = seal_held(key, b"b" * 32, held)
    assert open_held(keys, b"b" * 32, value) == held
    flipped = value[:-1] + bytes([value[-1] ^ 1])
    for batch, wrong in (
        (b"c" * 32, value),
        (b"b" * 32, flipped),
        (b"b" * 32, b"x" * 32 + value[32:]),
        (b"b" * 32, value[:40]),
        (b"b" * 32, b""),
        (b"b" * 32, bytes(40_000)),
    ):
        with pytest.raises(OpenError):
            open_held(keys, batch, wrong)


def test_two_texts_are_never_held_under_one_key_and_nonce(tmp_path: Path) -> None:
    """A service that is resumed twice from one snapshot draws the same bytes, and none are used here."""
    key = store(tmp_path).storage_key(1)
    texts = [HeldRelease(release_secret=bytes([n]) * 32, shares=()) for n in (1, 2)]
    batches = [b"b" * 32, b"c" * 32]
    values = [seal_held(key, batch, held) for batch in batches for held in texts]
    assert len({value[32:44] for value in values[:2]}) == 2
    # Equal texts of two batches have one nonce, under two keys.
    first, second = values[0][44:], values[2][44:]
    assert bytes(a ^ b for a, b in zip(first, second, strict=True)) != bytes(len(first))
    assert seal_held(key, batches[0], texts[0]) == values[0]


def test_erased_indexes_are_never_used() -> None:
    """The shares of erased records are never returned, from a whole secret or from single shares."""
    context = b"c" * 32
    secret = b"s" * 32
    shares = release_shares(context, secret, range(3))
    whole = HeldRelease(release_secret=secret, shares=())
    assert without_erased(whole, context, 3, ()) == dict(enumerate(shares))
    assert without_erased(whole, context, 3, {1}) == {0: shares[0], 2: shares[2]}
    rest = HeldRelease(
        release_secret=None,
        shares=(ReleaseShare(index=0, share=shares[0]), ReleaseShare(index=9, share=shares[1])),
    )
    assert without_erased(rest, context, 3, ()) == {0: shares[0]}
    assert without_erased(rest, context, 3, {0}) == {}
