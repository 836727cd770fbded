"""The profile: a TOML file that says who a participant is, and where its log, keys and state are.

    name = "XAA:police"
    role = "agency"                      # authority, agency, kas or auditor
    log = "sqlite:../log.db"
    kas = "local:../kas/kas.toml"        # needed for reading
    keys = "keys"
    state = "state"
    genesis = "8f…"                      # SHA-256 of the coalition's genesis statement, 64 hex digits
    passphrase_file = "passphrase"       # optional; without it the passphrase is asked for
    max_unbound_minutes = 60             # optional; replay warns of what no position binds for longer

Relative paths are relative to the folder of the file, so that the folder can be moved. ``genesis`` pins the
coalition: a log whose directory begins otherwise is refused, whatever it says.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import tomli_w

from broker.directory.party import AGENCY_NAME, AUTHORITY, PLAIN_NAME
from broker.errors import UsageError
from broker.log import check_url
from broker.log.kafka.options import FILE_OPTIONS

__all__ = [
    "MAX_PROFILE_BYTES",
    "Profile",
    "Role",
    "bytes_of",
    "check_name",
    "local_kas",
    "relative_url",
    "slug",
    "url_from",
]

MAX_PROFILE_BYTES = 64 * 1024
_T = TypeVar("_T")
_REQUIRED = ("name", "role", "log", "keys", "state", "genesis")
_OPTIONAL = ("kas", "passphrase_file", "max_unbound_minutes")
_LOCAL = "local:"
_UNBOUND_MINUTES = 60


class Role(StrEnum):
    """The role of a participant; it decides which keys it has and what its name may be."""

    AUTHORITY = "authority"
    AGENCY = "agency"
    KAS = "kas"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A participant's profile; its paths are absolute here, and relative in the file."""

    path: Path
    name: str
    role: Role
    log: str
    keys: Path
    state: Path
    genesis: bytes
    kas: Path | None = None
    """The profile of the key access service, if it runs inside this process."""
    passphrase_file: Path | None = None
    max_unbound_minutes: int = _UNBOUND_MINUTES
    """A replay warns where something in a channel is bound by no position for longer than this."""

    @property
    def consultations(self) -> Path:
        """The file that keeps the receipts of single records which were consulted."""
        return self.state / "consultations.receipts"

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Read a profile; raises UsageError, which names the file and the field that is wrong or missing."""
        fields = _read(path)
        where = f"profile '{path}'"
        # A misspelt optional field, such as pasphrase_file, would otherwise be overlooked in silence.
        for name in fields.keys() - {*_REQUIRED, *_OPTIONAL}:
            raise UsageError(
                f"{where}: unknown field '{name}'", hint=f"known fields: {', '.join(_REQUIRED + _OPTIONAL)}"
            )
        folder = path.absolute().parent
        role = _role(_text(where, fields, "role"), where)
        kas = fields.get("kas")
        passphrase_file = fields.get("passphrase_file")
        return cls(
            path=path.absolute(),
            name=_named(where, "name", lambda: check_name(_text(where, fields, "name"), role)),
            role=role,
            log=_named(where, "log", lambda: url_from(_text(where, fields, "log"), folder)),
            keys=folder / _text(where, fields, "keys"),
            state=folder / _text(where, fields, "state"),
            genesis=_genesis(_text(where, fields, "genesis"), where),
            kas=None
            if kas is None
            else _named(where, "kas", lambda: local_kas(_text(where, fields, "kas"), folder)),
            passphrase_file=None
            if passphrase_file is None
            else folder / _text(where, fields, "passphrase_file"),
            max_unbound_minutes=_minutes(where, fields, "max_unbound_minutes"),
        )

    def save(self) -> None:
        """Write a new profile, with paths relative to it; raises UsageError if the file exists already."""
        folder = self.path.parent
        fields: dict[str, str] = {"name": self.name, "role": self.role.value}
        fields["log"] = relative_url(self.log, folder)
        if self.kas is not None:
            fields["kas"] = _LOCAL + _relative(self.kas, folder)
        fields["keys"] = _relative(self.keys, folder)
        fields["state"] = _relative(self.state, folder)
        fields["genesis"] = self.genesis.hex()
        if self.passphrase_file is not None:
            fields["passphrase_file"] = _relative(self.passphrase_file, folder)
        try:
            # Mode x: a profile pins a coalition and names its keys, so a new one never takes the place of
            # another.
            with open(self.path, "x", encoding="utf-8") as file:
                file.write(f"# A profile of ftf-broker: ftf-broker --profile {self.path.name} …\n")
                file.write(tomli_w.dumps(fields))
        except FileExistsError:
            raise UsageError(
                f"'{self.path}' exists already", hint="choose another folder, or move the old one away"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot write '{self.path}': {error.strerror}") from None


def _read(path: Path) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PROFILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no profile '{path}'", hint="name one with --profile FILE or in FTF_PROFILE"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read profile '{path}': {error.strerror}") from None
    if len(data) > MAX_PROFILE_BYTES:
        raise UsageError(f"profile '{path}' is larger than {MAX_PROFILE_BYTES} bytes")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"profile '{path}' is not valid TOML: {error}") from None


def _minutes(where: str, fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name, _UNBOUND_MINUTES)
    # ``type`` and not ``isinstance``: to Python true is an integer too.
    if type(value) is not int or value < 1:
        raise UsageError(
            f"{where}: field '{name}' is {value!r}, expected a whole number of minutes from 1 on"
        )
    return value


def _text(where: str, fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise UsageError(f"{where}: field '{name}' is missing", hint=f"required: {', '.join(_REQUIRED)}")
    # With a NUL in a path, open() would raise ValueError, which is none of our errors.
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{where}: field '{name}' is {value!r}, expected text")
    return value


def _named(where: str, name: str, parse: Callable[[], _T]) -> _T:
    try:
        return parse()
    except UsageError as error:
        raise UsageError(f"{where}: field '{name}': {error.message}", hint=error.hint) from None


def _role(text: str, where: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        known = ", ".join(role.value for role in Role)
        raise UsageError(f"{where}: field 'role' is '{text}', expected one of: {known}") from None


def check_name(name: str, role: Role) -> str:
    """Return the name if a participant in this role may have it; raises UsageError if not."""
    if role is Role.AUTHORITY:
        if name != AUTHORITY:
            raise UsageError(f"the authority is called '{AUTHORITY}', not '{name}'")
    elif role is Role.AGENCY:
        if not AGENCY_NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' is not the name of an agency",
                hint="<state or organisation>:<id>, for example XAA:police or XXO:europol-desk",
            )
    elif not PLAIN_NAME.fullmatch(name) or name == AUTHORITY:
        raise UsageError(
            f"'{name}' is not the name of a service or an auditor", hint="small letters, digits, hyphens"
        )
    return name


def _genesis(text: str, where: str) -> bytes:
    hint = "init prints it, and every participant gets it from the authority in person"
    return bytes_of(text, 32, f"{where}: field 'genesis'", hint=hint)


def bytes_of(text: str, count: int, what: str, *, hint: str | None = None) -> bytes:
    """Read exactly ``count`` bytes from hex digits; raises UsageError, which calls the value ``what``."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != count:
        raise UsageError(f"{what} is '{text[:80]}', expected {2 * count} hex digits", hint=hint)
    return found


def local_kas(address: str, folder: Path) -> Path:
    """Return the path of the profile that a ``local:`` address names, seen from this folder."""
    scheme, colon, rest = address.partition(":")
    if not colon or not scheme or not rest:
        raise UsageError(f"'{address}' is not an address", hint="write local:<path of the KAS's profile>")
    if scheme != "local":
        raise UsageError(
            f"cannot use '{address}': this version knows only key access services in the same process",
            hint="write local:<path of the KAS's profile>; the HTTP service comes later",
        )
    # abspath() and not resolve(): links are kept, so that an owner can move what is behind a link.
    return Path(os.path.abspath(folder / rest))


def url_from(url: str, folder: Path) -> str:
    """Return the URL of a log with its paths made absolute, seen from this folder.

    Raises UsageError if it is not the URL of a log.
    """
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme == "kafka":
        return _with_files(url, lambda file: os.path.abspath(folder / file))
    if parts.scheme != "sqlite" or parts.path.startswith("/"):
        return url
    # A file name in Linux is bytes. surrogateescape carries bytes through that are not UTF-8.
    path = os.path.abspath(folder / unquote(parts.path, errors="surrogateescape"))
    return urlunsplit(("sqlite", "", _quoted(path), parts.query, ""))


def relative_url(url: str, folder: Path) -> str:
    """Return the URL of a log as a profile in this folder writes it; the inverse of ``url_from``."""
    parts = urlsplit(url)
    if parts.scheme == "kafka":
        return _with_files(url, lambda file: _relative(Path(file), folder))
    if parts.scheme != "sqlite":
        return url
    path = Path(unquote(parts.path, errors="surrogateescape"))
    query = f"?{parts.query}" if parts.query else ""
    return f"sqlite:{_quoted(_relative(path, folder))}{query}"


def _with_files(url: str, change: Callable[[str], str]) -> str:
    """Change the paths of the files that the URL of a Kafka names; everything else stays as it is."""
    head, mark, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    named = [(name, change(value) if name in FILE_OPTIONS else value) for name, value in pairs]
    return head + mark + urlencode(named, safe="/", quote_via=quote)


def _quoted(path: str) -> str:
    return quote(path, errors="surrogateescape")


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to this folder if they share more than the root; else the absolute path."""
    path = Path(os.path.abspath(path))
    folder = Path(os.path.abspath(folder))
    # With only the root in common, the files do not move together, and ../../.. would soon lead nowhere.
    common = Path(os.path.commonpath((path, folder)))
    return str(path) if common == Path(common.anchor) else os.path.relpath(path, folder)


def slug(name: str) -> str:
    """Return a name as it may stand in a file name: ``XAA:police`` gives ``xaa-police``."""
    return name.lower().replace(":", "-")
