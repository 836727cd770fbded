"""certificates.py: certificates of an authority, of brokers and of clients, as OpenSSL judges them."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certificates import main


def run(*arguments: object) -> int:
    """Run a command of the script."""
    return main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an authority, a broker and a client."""
    made = tmp_path / "certificates"
    assert run("authority", made) == 0
    assert run("issue", made, "kafka-1", "--host", "localhost", "--host", "127.0.0.1") == 0
    assert run("issue", made, "kas", "auditor") == 0
    return made


def handshake(server: Path, client: Path, *, trusted: Path, name: str) -> str:
    """Make a TLS handshake with both certificates; return the name by which the server knows the client."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted)
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(server)
    asking = ssl.create_default_context(cafile=trusted)
    asking.load_cert_chain(client)
    ours, theirs = socket.socketpair()
    known: list[str] = []

    def serve() -> None:
        with theirs, serving.wrap_socket(theirs, server_side=True) as connection:
            subject = (connection.getpeercert() or {})["subject"]
            known.append(str(dict(part[0] for part in subject)["commonName"]))  # type: ignore[misc]
            connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, asking.wrap_socket(ours, server_hostname=name) as connection:
            assert connection.recv(1) == b"x"
    finally:
        thread.join()
    return known[0]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_brokers_and_clients_know_each_other(folder: Path, name: str) -> None:
    """A broker is known by its hosts, a client by its common name, which is Kafka's principal."""
    store = folder / "kafka-1.store.pem"
    known = handshake(store, folder / "kas.store.pem", trusted=folder / "ca.pem", name=name)
    assert known == "kas"


def test_a_client_is_no_broker(folder: Path) -> None:
    """A client cannot pose as a broker: its certificate is refused for a server."""
    usage = x509.load_pem_x509_certificate((folder / "kas.pem").read_bytes())
    uses = usage.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH not in uses
    with pytest.raises(x509.ExtensionNotFound):
        usage.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_secrets_are_for_their_owner_alone(folder: Path) -> None:
    """Every file with a private key has mode 0600, and the folder 0700."""
    secret = [file for file in folder.iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    assert {file.name for file in secret} == {
        "ca.key", *(f"{name}.{end}" for name in ("kafka-1", "kas", "auditor") for end in ("key", "store.pem"))
    }  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in secret} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_key_need_not_leave_its_owner(folder: Path, tmp_path: Path) -> None:
    """An agency makes its key and a request on its own host; only the request travels."""
    own = tmp_path / "agency"
    assert run("request", own, "xcc-border") == 0
    assert run("sign", folder, own / "xcc-border.csr") == 0
    certificate = x509.load_pem_x509_certificate((folder / "xcc-border.pem").read_bytes())
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "xcc-border"
    assert not (folder / "xcc-border.key").exists()
    (own / "store.pem").write_bytes(
        (own / "xcc-border.key").read_bytes() + (folder / "xcc-border.pem").read_bytes()
    )
    server = folder / "kafka-1.store.pem"
    assert handshake(server, own / "store.pem", trusted=folder / "ca.pem", name="localhost") == "xcc-border"


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second certificate for a name, and a second authority, are refused, and the first ones stay."""
    before = {file: file.read_bytes() for file in folder.iterdir()}
    assert run("issue", folder, "kas") == 2
    assert run("authority", folder) == 2
    assert "exists already" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["", "../kas", "a b", "User:CN=kas", "kas,O=XA", "-kas", "x" * 64])
def test_names_that_are_none(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name is refused that would lead to another file, or look like another principal."""
    assert run("issue", folder, "--", name) == 2
    assert "is not a name" in capsys.readouterr().err


def test_a_request_that_was_altered(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A request is answered only if it is signed with the key that it holds."""
    assert run("request", tmp_path, "xaa") == 0
    asked = x509.load_pem_x509_csr((tmp_path / "xaa.csr").read_bytes())
    der = asked.public_bytes(Encoding.DER).replace(b"xaa", b"xbb")
    (tmp_path / "xbb.csr").write_bytes(x509.load_der_x509_csr(der).public_bytes(Encoding.PEM))
    assert run("sign", folder, tmp_path / "xbb.csr") == 2
    assert "is not signed with" in capsys.readouterr().err
