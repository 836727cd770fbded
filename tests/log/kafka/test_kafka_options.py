"""URLs of logs on Kafka: their options, and the error for each mistake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.errors import UsageError
from broker.log import check_url, open_log
from broker.log.kafka.options import OPTION_NAMES, KafkaOptions
from broker.log.url import query_options
from support.certificates import Authority


def options(url: str) -> KafkaOptions:
    """Parse a URL."""
    parts = urlsplit(url)
    return KafkaOptions.from_url(url, parts, query_options(url, parts, allowed=OPTION_NAMES))


def test_hosts_and_defaults() -> None:
    """A URL may name several hosts; the port is 9092 unless it is given."""
    read = options("kafka://one:1234,two,[::1]:5")
    assert read.hosts == (("one", 1234), ("two", 9092), ("::1", 5))
    assert (read.prefix, read.client_id, read.timeout_s, read.replication) == ("ftf", "ftf-broker", 30, None)
    assert read.load_tls() is None
    assert read.load_sasl() is None


def test_every_option(tmp_path: Path) -> None:
    """Each option is read into its field."""
    read = options(
        "kafka://h?ca=/c/ca.pem&cert=/c/me.pem&key=/c/me.key&sasl=scram-sha-512&user=u&password_file=/p"
        "&client_id=kas-1&timeout_ms=2500&prefix=exercise&replication=2&min_insync=1"
    )
    assert (read.ca, read.cert, read.key) == (Path("/c/ca.pem"), Path("/c/me.pem"), Path("/c/me.key"))
    assert read.sasl == ("scram-sha-512", "u", Path("/p"))
    assert (read.client_id, read.timeout_s, read.prefix) == ("kas-1", 2.5, "exercise")
    assert (read.replication, read.min_insync) == (2, 1)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://", "is not host:port"),
        ("kafka:///log", "only options may follow"),
        ("kafka://h/topic", "only options may follow"),
        ("kafka://h#x", "only options may follow"),
        ("kafka://h:0", "is not host:port"),
        ("kafka://h:65536", "is not host:port"),
        ("kafka://h:,i", "is not host:port"),
        ("kafka://h,,i", "is not host:port"),
        ("kafka://h:9²", "is not host:port"),
        ("kafka://user:secret@h", "carries no password"),
        ("kafka://user:secret@h?acks=1", "carries no password"),
        ("kafka://h?acks=1", "unknown option 'acks'"),
        ("kafka://h?prefix=a b", "invalid prefix"),
        ("kafka://h?client_id=", "invalid client_id"),
        ("kafka://h?timeout_ms=5", "invalid timeout_ms '5' in the log URL, expected 100 to 600000"),
        ("kafka://h?timeout_ms=1s", "invalid timeout_ms"),
        ("kafka://h?replication=0", "invalid replication"),
        ("kafka://h?replication=1&min_insync=2", "cannot be reached"),
        ("kafka://h?min_insync=4", "cannot be reached"),
        ("kafka://h?cert=me.pem&ca=x", "cert and key belong together"),
        ("kafka://h?key=me.key&ca=x", "cert and key belong together"),
        ("kafka://h?cert=me.pem&key=me.key", "needs TLS"),
        ("kafka://h?ca=", "names no file"),
        ("kafka://h?ca=x&sasl=plain&user=u&password_file=f", "unknown sasl 'plain'"),
        ("kafka://h?ca=x&user=u", "unknown sasl None"),
        ("kafka://h?ca=x&sasl=scram-sha-256&user=u", "needs user and password_file"),
        ("kafka://h?sasl=scram-sha-256&user=u&password_file=f", "over TLS only"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, says: str) -> None:
    """Each mistake is a UsageError before anything is opened, and a password is not repeated in it."""
    with pytest.raises(UsageError) as caught:
        open_log(url)
    assert says in caught.value.message
    assert "secret" not in caught.value.message
    with pytest.raises(UsageError):
        check_url(url)


def test_certificates_are_loaded(tmp_path: Path) -> None:
    """With certificates in order TLS checks the broker's name and certificate."""
    authority = Authority.make(tmp_path / "ca.pem")
    cert, key = authority.issue("me", tmp_path)
    context = options(f"kafka://h?ca={tmp_path}/ca.pem&cert={cert}&key={key}").load_tls()
    assert context is not None
    assert context.check_hostname


@pytest.mark.parametrize("days", [-3, 3])
def test_a_certificate_out_of_date_is_named(tmp_path: Path, days: int) -> None:
    """A certificate that has expired, or is not yet valid, is a UsageError before any connection is made."""
    authority = Authority.make(tmp_path / "ca.pem")
    issued = datetime.now(UTC) + timedelta(days=days)
    cert, key = authority.issue("me", tmp_path, issued=issued)
    with pytest.raises(UsageError, match=r"me\.pem' is valid from .* UTC, and now it is") as caught:
        options(f"kafka://h?ca={tmp_path}/ca.pem&cert={cert}&key={key}").load_tls()
    assert caught.value.hint


@pytest.mark.parametrize("broken", ["ca.pem", "me.pem", "me.key"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, broken: str, content: bytes | None) -> None:
    """A file that is missing or holds something else is a UsageError with its option."""
    authority = Authority.make(tmp_path / "ca.pem")
    authority.issue("me", tmp_path)
    (tmp_path / broken).unlink()
    if content is not None:
        (tmp_path / broken).write_bytes(content)
    url = f"kafka://h?ca={tmp_path}/ca.pem&cert={tmp_path}/me.pem&key={tmp_path}/me.key"
    with pytest.raises(UsageError, match="cannot be used") as caught:
        options(url).load_tls()
    assert caught.value.hint


def test_the_password_is_in_a_file(tmp_path: Path) -> None:
    """The password is read from a file, without its last line break, and is never shown."""
    file = tmp_path / "password"
    url = f"kafka://h?ca=x&sasl=scram-sha-512&user=alice&password_file={file}"
    with pytest.raises(UsageError, match="cannot be used"):
        options(url).load_sasl()
    file.write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        options(url).load_sasl()
    file.write_text(" wonder land \n")
    sasl = options(url).load_sasl()
    assert sasl is not None
    assert (sasl.mechanism, sasl.user, sasl.password) == ("SCRAM-SHA-512", "alice", " wonder land ")
    assert "wonder" not in repr(sasl)
