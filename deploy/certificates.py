"""Certificates for a coalition's Kafka: an authority's, one for each broker, and one for each client.

    python deploy/certificates.py authority FOLDER           ca.pem, and ca.key that signs the others
    python deploy/certificates.py issue FOLDER NAME…         a key and a certificate CN=NAME for each
    python deploy/certificates.py issue FOLDER kafka-1 --host kafka-1 --host 127.0.0.1     for a broker
    python deploy/certificates.py request FOLDER NAME        a key, and NAME.csr for the holder of ca.key
    python deploy/certificates.py sign FOLDER FILE.csr       answers a request: NAME.pem

``NAME.pem`` is the certificate and ``NAME.key`` its key. The key is PKCS#8 and not encrypted, since Kafka and
OpenSSL must read it without asking for a password; its mode is 0600. ``NAME.store.pem`` holds both in one
file, as Kafka's own programs expect. With ``request`` and ``sign`` a key never leaves the host of its owner.
Kafka knows a client as ``User:CN=NAME``. Nothing is ever overwritten. Certificates follow RFC 5280, with keys
on P-256 and SHA-256.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertificateFailed", "authority", "issue", "main", "request", "sign"]

AUTHORITY_DAYS = 3650
DAYS = 397
_EARLIER = timedelta(minutes=5)  # a new certificate is already valid on a host whose clock is slow
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class CertificateFailed(Exception):
    """A certificate cannot be made; the message says why."""


def authority(folder: Path, *, name: str = "ftf brokers", days: int = AUTHORITY_DAYS) -> None:
    """Make the authority that signs the certificates of one cluster and of its clients."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    _write(folder / "ca.key", _key_bytes(key), secret=True)
    _write(folder / "ca.pem", builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def request(folder: Path, name: str) -> Path:
    """Make a key and a request for a certificate ``CN=name`` (PKCS#10, RFC 2986); return the request."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(_checked(name)))
    _write(folder / f"{name}.key", _key_bytes(key), secret=True)
    file = folder / f"{name}.csr"
    _write(file, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return file


def sign(folder: Path, file: Path, *, hosts: tuple[str, ...] = (), days: int = DAYS) -> Path:
    """Answer a request with a certificate of the authority in this folder; return the certificate.

    Only the name and the public key are taken from the request. Its extensions are ignored: a client could
    otherwise ask for the uses of a broker, or of an authority.
    """
    asked = x509.load_pem_x509_csr(file.read_bytes())
    names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    public = asked.public_key()
    # The signature proves that the sender of the request holds the private key (RFC 2986, section 3).
    if not asked.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise CertificateFailed(f"'{file}' is not signed with the P-256 key that it holds")
    if len(names) != 1:
        raise CertificateFailed(f"'{file}' names {len(names)} subjects, expected one")
    name = _checked(str(names[0].value))
    certificate = folder / f"{name}.pem"
    _write(certificate, _signed(folder, name, public, hosts, days))
    return certificate


def issue(folder: Path, name: str, *, hosts: tuple[str, ...] = (), days: int = DAYS) -> None:
    """Make a key, its certificate and the store, where one person is trusted with all of them."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(folder, _checked(name), key.public_key(), hosts, days)
    _write(folder / f"{name}.key", _key_bytes(key), secret=True)
    _write(folder / f"{name}.pem", certificate)
    _write(folder / f"{name}.store.pem", _key_bytes(key) + certificate, secret=True)


def _signed(
    folder: Path, name: str, public: ec.EllipticCurvePublicKey, hosts: tuple[str, ...], days: int
) -> bytes:
    authority_key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise CertificateFailed(f"'{folder / 'ca.key'}' does not hold a P-256 key")
    # Only a broker, which has hosts, may act as a TLS server. A client could otherwise pose as a broker.
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = _builder(_subject(name), issuer.subject, public, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    if hosts:
        addresses = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(addresses, critical=False)
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates,
        crl_sign=signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _checked(name: str) -> str:
    # The name becomes a file name and, without escaping, Kafka's principal.
    if _NAME.fullmatch(name) is None:
        raise CertificateFailed(
            f"'{name}' is not a name, expected at most 63 letters, digits, dots, hyphens and underscores"
        )
    return name


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, data: bytes, *, secret: bool = False) -> None:
    # O_EXCL: an existing key or certificate is never overwritten.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description="Certificates for a coalition's Kafka.")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {
        name: commands.add_parser(name, help=words)
        for name, words in {
            "authority": "make ca.pem and ca.key",
            "issue": "make a key and a certificate for each name",
            "request": "make a key and a request for a certificate",
            "sign": "answer a request",
        }.items()
    }
    for command in made.values():
        command.add_argument("folder", type=Path)
    made["authority"].add_argument("--name", default="ftf brokers")
    made["issue"].add_argument("names", nargs="+")
    made["request"].add_argument("names", nargs=1)
    made["sign"].add_argument("file", type=Path)
    for command in (made["issue"], made["sign"]):
        command.add_argument(
            "--host", action="append", default=[], help="for a broker: an address by which clients reach it"
        )
    for name, days in (("authority", AUTHORITY_DAYS), ("issue", DAYS), ("sign", DAYS)):
        made[name].add_argument("--days", type=int, default=days)
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except CertificateFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FileExistsError as error:
        print(
            f"error: '{error.filename}' exists already\nhint: move it away, or use another folder",
            file=sys.stderr,
        )
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


def _run(given: argparse.Namespace) -> None:
    match given.command:
        case "authority":
            authority(given.folder, name=given.name, days=given.days)
        case "issue":
            for name in given.names:
                issue(given.folder, name, hosts=tuple(given.host), days=given.days)
        case "request":
            print(request(given.folder, given.names[0]))
        case _:
            print(sign(given.folder, given.file, hosts=tuple(given.host), days=given.days))


if __name__ == "__main__":
    sys.exit(main())
