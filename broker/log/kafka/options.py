"""The options in the URL of a log on Kafka: ``kafka://host:port,host:port?option=…``.

====================  ==========================================================================
``ca``                the file with the certificates that sign those of the brokers; turns TLS on
``cert``, ``key``     the files with our client certificate and its private key (PEM, not encrypted)
``sasl``              ``scram-sha-256`` or ``scram-sha-512``, with ``user`` and ``password_file``
``client_id``         our name in the logs and quotas of the brokers; ``ftf-broker`` by default
``timeout_ms``        the time after which a call gives up; 30000 by default
``prefix``            the beginning of the names of topics; ``ftf`` by default
``replication``       the number of replicas of each partition, for topics that are created
``min_insync``        the number of replicas that must hold an append before it is acknowledged
====================  ==========================================================================

Without ``replication`` and ``min_insync`` they are 3 and 2, and on a cluster of one broker 1 and 1. Secrets
never stand in a URL, which is shown and logged: options name files.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import SplitResult

from cryptography import x509

from broker.errors import UsageError
from broker.log.protocol import check_prefix

__all__ = ["FILE_OPTIONS", "OPTION_NAMES", "KafkaOptions", "Sasl"]

OPTION_NAMES = (
    "ca", "cert", "key", "sasl", "user", "password_file", "client_id", "timeout_ms", "prefix",
    "replication", "min_insync",
)  # fmt: skip
FILE_OPTIONS = frozenset({"ca", "cert", "key", "password_file"})
"""The options that name files; in a profile such a name is relative to the profile."""

DEFAULT_PORT = 9092
_MECHANISMS = ("scram-sha-256", "scram-sha-512")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_EXAMPLE = "for example kafka://broker1:9092,broker2:9092?ca=ca.pem&cert=me.pem&key=me.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sasl:
    """A name and a password for SCRAM (RFC 5802); ``mechanism`` is as Kafka writes it."""

    mechanism: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Sasl(mechanism={self.mechanism!r}, user={self.user!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    """The options of a connection to a cluster. Files are named here, and read when it is opened."""

    hosts: tuple[tuple[str, int], ...]
    prefix: str = "ftf"
    client_id: str = "ftf-broker"
    timeout_s: float = 30.0
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    sasl: tuple[str, str, Path] | None = None
    replication: int | None = None
    min_insync: int | None = None

    @classmethod
    def from_url(cls, url: str, parts: SplitResult, options: Mapping[str, str]) -> KafkaOptions:
        """Read a URL that was split, and its options. The caller has checked that their names are known."""
        if parts.path.strip("/") or parts.fragment:
            raise UsageError(f"invalid log URL {url!r}: only options may follow the hosts", hint=_EXAMPLE)
        prefix = options.get("prefix", "ftf")
        check_prefix(prefix)
        client_id = options.get("client_id", "ftf-broker")
        if _CLIENT_ID.fullmatch(client_id) is None:
            raise UsageError(f"invalid client_id {client_id!r} in the log URL")
        replication = _number(options, "replication", 1, 9)
        min_insync = _number(options, "min_insync", 1, 9)
        if (replication or 3) < (min_insync or 1):
            raise UsageError(f"min_insync={min_insync} cannot be reached with replication={replication or 3}")
        timeout_ms = _number(options, "timeout_ms", 100, 600_000)
        return cls(
            hosts=tuple(_host(url, host) for host in parts.netloc.split(",")),
            prefix=prefix,
            client_id=client_id,
            timeout_s=30.0 if timeout_ms is None else timeout_ms / 1000,
            ca=_path(options, "ca"),
            cert=_path(options, "cert"),
            key=_path(options, "key"),
            sasl=_sasl(options),
            replication=replication,
            min_insync=min_insync,
        )._checked()

    def _checked(self) -> KafkaOptions:
        if (self.cert is None) != (self.key is None):
            raise UsageError("cert and key belong together in a log URL", hint=_EXAMPLE)
        if self.cert is not None and self.ca is None:
            raise UsageError(
                "a client certificate needs TLS: ca is missing in the log URL",
                hint="name the file with the certificates that sign the brokers', as ca=FILE",
            )
        if self.sasl is not None and self.ca is None:
            raise UsageError(
                "a password is sent over TLS only: ca is missing in the log URL",
                hint="name the file with the certificates that sign the brokers', as ca=FILE",
            )
        return self

    @property
    def shown_hosts(self) -> str:
        """The hosts as they stand in a URL."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    def load_tls(self, now: datetime | None = None) -> ssl.SSLContext | None:
        """Read the files of the certificates; return None without TLS.

        Raises UsageError when a file cannot be used.
        """
        if self.ca is None:
            return None
        # This protocol checks the broker's certificate and its host name (RFC 9525); nothing turns that off.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("ca", self.ca, error) from error
        if self.cert is not None:
            _check_expiry(self.cert, now or datetime.now(UTC))
            try:
                # Without a function for the password OpenSSL would ask for one on the terminal, and a service
                # would hang.
                context.load_cert_chain(self.cert, self.key, password=_no_password)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise _unusable("cert and key", self.cert, error) from error
        return context

    def load_sasl(self) -> Sasl | None:
        """Read the file of the password; return None without SASL.

        Raises UsageError when the file cannot be used.
        """
        if self.sasl is None:
            return None
        mechanism, user, file = self.sasl
        try:
            password = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable("password_file", file, error) from error
        if not password:
            raise UsageError(f"the password file {str(file)!r} is empty")
        return Sasl(mechanism=mechanism.upper(), user=user, password=password)


def _host(url: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon and not host:
        host = port
        port = ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or (colon and not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535)):
        raise UsageError(f"invalid log URL {url!r}: {text!r} is not host:port", hint=_EXAMPLE)
    return host, int(port) if colon else DEFAULT_PORT


def _number(options: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise UsageError(f"invalid {name} {text!r} in the log URL, expected {least} to {most}")
    return int(text)


def _path(options: Mapping[str, str], name: str) -> Path | None:
    text = options.get(name)
    if text is None:
        return None
    if not text or "\0" in text:
        raise UsageError(f"{name} names no file in the log URL")
    return Path(text)


def _sasl(options: Mapping[str, str]) -> tuple[str, str, Path] | None:
    mechanism = options.get("sasl")
    user = options.get("user")
    file = _path(options, "password_file")
    if mechanism is None and user is None and file is None:
        return None
    if mechanism not in _MECHANISMS:
        raise UsageError(
            f"unknown sasl {mechanism!r} in the log URL, expected one of: {', '.join(_MECHANISMS)}"
        )
    if not user or file is None:
        raise UsageError("sasl needs user and password_file in the log URL")
    return mechanism, user, file


def _check_expiry(file: Path, now: datetime) -> None:
    """Raise a UsageError for a certificate that is not valid now.

    A broker would only close the connection: in TLS 1.3 the client's certificate is refused after the
    handshake (RFC 8446, section 4.4.2.4), when the reason no longer reaches us reliably.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable("cert", file, error) from error
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise UsageError(
            f"the certificate {str(file)!r} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
            f" to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and now it is {now:%Y-%m-%d %H:%M}",
            hint="ask the issuer of the client certificates for a new one, and check this machine's clock",
        )


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _unusable(option: str, file: Path, error: Exception) -> UsageError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(f"{option} {str(file)!r} cannot be used: {reason}", hint="check the log's URL")
