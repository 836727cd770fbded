"""Key files: they are written for their owner alone, and refused when anything about them is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from broker.crypto.keyfile import (
    MAX_KEY_FILE_BYTES,
    load_receiving_key,
    load_signing_key,
    read_private,
    write_key,
    write_private,
)
from broker.crypto.seal import ReceivingKey, open_sealed, seal
from broker.crypto.sign import SigningKey, verify
from broker.errors import KeyFileError

PASSPHRASE = b"correct horse"
SIGNING, RECEIVING = SigningKey.generate(), ReceivingKey.generate()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one key of each kind; the key derivation is slow, so both are written once."""
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder / "signing.pem", SIGNING, PASSPHRASE)
    write_key(folder / "receiving.pem", RECEIVING, PASSPHRASE)
    return folder


def _private(path: Path, data: bytes) -> Path:
    write_private(path, data)
    return path


def test_signing_key_comes_back(stored: Path) -> None:
    """A signing key is stored as one encrypted PKCS#8 block and comes back the same."""
    loaded = load_signing_key(stored / "signing.pem", PASSPHRASE)
    assert (loaded.public, loaded.key_id) == (SIGNING.public, SIGNING.key_id)
    verify(SIGNING.public, "receipt", bytes(32), b"x", loaded.sign("receipt", bytes(32), b"x"))
    assert (stored / "signing.pem").read_bytes().count(b"BEGIN ENCRYPTED PRIVATE KEY") == 1


def test_receiving_key_comes_back(stored: Path) -> None:
    """A receiving key is stored as two blocks, ML-KEM-768 first, and opens what was sealed to it before."""
    sealed = seal(RECEIVING.public, b"x", b"")
    loaded = load_receiving_key(stored / "receiving.pem", PASSPHRASE)
    assert loaded.key_id == RECEIVING.key_id
    assert open_sealed(loaded, sealed, b"") == b"x"
    assert (stored / "receiving.pem").read_bytes().count(b"BEGIN ENCRYPTED PRIVATE KEY") == 2


def test_file_is_its_owners_alone(stored: Path) -> None:
    """A key file has mode 0600, whatever the umask."""
    for name in ("signing.pem", "receiving.pem"):
        assert (stored / name).stat().st_mode & 0o777 == 0o600
    before = os.umask(0)
    try:
        write_private(stored / "open-umask", b"x")
    finally:
        os.umask(before)
    assert (stored / "open-umask").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o777])
def test_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file with any bit for the group or for others is refused, with the command that repairs it."""
    path = _private(tmp_path / "key.pem", b"x")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as raised:
        read_private(path)
    assert raised.value.hint == f"run: chmod 600 {path}"


def test_read_only_file_is_fine(tmp_path: Path) -> None:
    """A key file that its owner may read but not write is accepted."""
    path = _private(tmp_path / "key.pem", b"x")
    path.chmod(0o400)
    assert read_private(path) == b"x"


@pytest.mark.parametrize("passphrase", [b"wrong", b"", PASSPHRASE + b" "])
def test_wrong_passphrase(stored: Path, passphrase: bytes) -> None:
    """A wrong or empty passphrase is refused, and the error says that the passphrase is wrong."""
    with pytest.raises(KeyFileError, match="does not open with this passphrase"):
        load_signing_key(stored / "signing.pem", passphrase)


def test_empty_passphrase_is_not_written(tmp_path: Path) -> None:
    """A key is never stored without a passphrase."""
    with pytest.raises(KeyFileError, match="passphrase is empty"):
        write_key(tmp_path / "key.pem", SIGNING, b"")
    assert not list(tmp_path.iterdir())


def test_existing_file_is_kept(tmp_path: Path) -> None:
    """A key file is never overwritten, not through a link either."""
    path = _private(tmp_path / "key.pem", b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(KeyFileError, match="exists already"):
            write_key(taken, SIGNING, PASSPHRASE)
    assert path.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_unwritable_folder(tmp_path: Path) -> None:
    """A missing folder ends in our error."""
    with pytest.raises(KeyFileError, match="cannot write"):
        write_private(tmp_path / "missing" / "key.pem", b"x")


def test_failed_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails, no half key stays behind to bar the next attempt."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="No space left"):
        write_private(tmp_path / "key.pem", b"x")
    assert not (tmp_path / "key.pem").exists()


def test_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    """A link, as secret stores use them, is followed, and the mode of its target counts."""
    path = _private(tmp_path / "key.pem", b"x")
    (tmp_path / "link").symlink_to(path)
    assert read_private(tmp_path / "link") == b"x"
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="others can read"):
        read_private(tmp_path / "link")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a named pipe and a missing file are refused, and a pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, words in (
        (tmp_path / "pipe", "no regular file"),
        (tmp_path, "cannot read|no regular file"),
        (tmp_path / "missing", "cannot read"),
    ):
        with pytest.raises(KeyFileError, match=words):
            read_private(path)


def test_large_file_is_refused(tmp_path: Path) -> None:
    """A file larger than any key file is not read to its end."""
    with pytest.raises(KeyFileError, match="larger"):
        read_private(_private(tmp_path / "large", bytes(MAX_KEY_FILE_BYTES + 1)))
    assert len(read_private(_private(tmp_path / "most", bytes(MAX_KEY_FILE_BYTES)))) == MAX_KEY_FILE_BYTES


def _blocks(path: Path) -> list[bytes]:
    text = path.read_bytes()
    return [b"-----BEGIN" + block for block in text.split(b"-----BEGIN")[1:]]


def test_receiving_blocks_have_their_order(stored: Path, tmp_path: Path) -> None:
    """Two blocks in the wrong order, or the same block twice, are not a receiving key."""
    mlkem, x25519 = _blocks(stored / "receiving.pem")
    for number, blocks in enumerate((x25519 + mlkem, mlkem + mlkem, x25519 + x25519)):
        with pytest.raises(KeyFileError, match="followed by"):
            load_receiving_key(_private(tmp_path / f"{number}.pem", blocks), PASSPHRASE)


def test_number_of_blocks(stored: Path, tmp_path: Path) -> None:
    """A file holds one block or two, as its key needs, and no further byte."""
    mlkem, x25519 = _blocks(stored / "receiving.pem")
    (signing,) = _blocks(stored / "signing.pem")
    files = {
        "one": mlkem,
        "three": mlkem + x25519 + x25519,
        "before": b"comment\n" + mlkem + x25519,
        "behind": mlkem + x25519 + b"comment\n",
        "truncated": (mlkem + x25519)[:-20],
        "empty": b"",
        "binary": bytes(range(256)),
    }
    for name, data in files.items():
        with pytest.raises(KeyFileError, match="does not hold 2 encrypted PKCS#8 blocks"):
            load_receiving_key(_private(tmp_path / name, data), PASSPHRASE)
    with pytest.raises(KeyFileError, match=r"does not hold 1 encrypted PKCS#8 block$"):
        load_signing_key(_private(tmp_path / "two", signing + signing), PASSPHRASE)


def test_wrong_kind_of_key(tmp_path: Path) -> None:
    """A key of another kind, correctly stored, is not loaded as a signing key."""
    pem = RECEIVING.x25519.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE)
    )
    with pytest.raises(KeyFileError, match="holds no Ed25519 key"):
        load_signing_key(_private(tmp_path / "key.pem", pem), PASSPHRASE)


def test_unencrypted_key_is_refused(tmp_path: Path) -> None:
    """A key that is stored without a passphrase is refused, even when a passphrase is given."""
    pem = SIGNING.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyFileError, match="does not hold"):
        load_signing_key(_private(tmp_path / "key.pem", pem), PASSPHRASE)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_damaged_block(stored: Path, tmp_path: Path, cut: int) -> None:
    """A block whose Base64 has lost some letters does not open, and the error says so."""
    head, _, tail = (stored / "signing.pem").read_bytes().partition(b"\n")
    damaged = head + b"\n" + tail[cut:]
    with pytest.raises(KeyFileError, match="does not open"):
        load_signing_key(_private(tmp_path / "key.pem", damaged), PASSPHRASE)


def test_carriage_returns_are_fine(stored: Path, tmp_path: Path) -> None:
    """A file whose line breaks were changed by an editor of another system is still read."""
    text = (stored / "signing.pem").read_bytes().replace(b"\n", b"\r\n")
    assert load_signing_key(_private(tmp_path / "key.pem", text), PASSPHRASE).key_id == SIGNING.key_id
