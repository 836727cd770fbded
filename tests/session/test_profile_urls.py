"""The log's URL in a profile: the files that it names lie where the profile says, wherever that is moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import UsageError
from broker.session import Profile, Role
from broker.session.profile import relative_url, url_from

HERE = Path("/srv/ftf/kas")
RELATIVE = "kafka://b1:9092,b2:9092?ca=../tls/ca.pem&cert=../tls/a%20b.pem&key=../tls/kas.key&prefix=x"
ABSOLUTE = "kafka://b1:9092,b2:9092?ca=/srv/ftf/tls/ca.pem&cert=/srv/ftf/tls/a%20b.pem&key=/srv/ftf/tls/kas.key&prefix=x"


def test_files_of_a_kafka_url_count_from_the_profiles_folder() -> None:
    """The paths of certificate, key and authority are relative in the file, and absolute after reading."""
    assert url_from(RELATIVE, HERE) == ABSOLUTE
    assert relative_url(ABSOLUTE, HERE) == RELATIVE


@pytest.mark.parametrize(
    "url",
    [
        "kafka://b1:9092",
        "kafka://b1:9092?prefix=x&timeout_ms=400",
        "kafka://b1:9092?ca=/etc/ssl/ca.pem&sasl=scram-sha-512&user=a&password_file=/run/secrets/a",
    ],
)
def test_what_names_no_relative_file_stays_as_it_is(url: str) -> None:
    """Hosts, options and absolute paths are left as they are."""
    assert url_from(url, HERE) == url
    assert relative_url(url, HERE) == url


def test_a_url_that_cannot_be_one_is_refused() -> None:
    """A certificate without its key is named before any file is looked for."""
    with pytest.raises(UsageError, match="cert and key belong together"):
        url_from("kafka://b1:9092?ca=ca.pem&cert=me.pem", HERE)


def test_a_moved_folder_takes_its_certificates_along(tmp_path: Path) -> None:
    """A profile that is saved, moved with its certificates and loaded again names them at the new place."""
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "kas").mkdir(parents=True)
    url = f"kafka://b1:9092?ca={old}/tls/ca.pem&cert={old}/tls/kas.pem&key={old}/tls/kas.key"
    Profile(
        path=old / "kas" / "kas.toml", name="kas", role=Role.KAS, log=url, keys=old / "kas" / "keys",
        state=old / "kas" / "state", genesis=bytes(32),
    ).save()  # fmt: skip
    old.rename(new)
    assert Profile.load(new / "kas" / "kas.toml").log == url.replace(str(old), str(new))
