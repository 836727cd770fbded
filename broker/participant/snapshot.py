"""The snapshot of a directory: what a participant keeps of it, so that a later start reads little.

The file has two lines: the SHA-256 of the second line, and a JSON object. The object holds the messages that
changed the directory, the root behind each of them, the frontier of the tree behind the last message that was
read, and what was found in the messages between. These are not kept, however many there are.

A snapshot saves time and decides nothing. Its statements are judged again, signatures included, and the log
is read on from the last message that it covers. A participant checks it against its high-water mark.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from broker.crypto.log_tree import Frontier
from broker.directory import Change, History
from broker.errors import FormatError
from broker.log.protocol import MAX_OFFSET
from broker.verify.violations import Kind, Place, Violation

__all__ = ["MAX_SNAPSHOT_BYTES", "MAX_VIOLATIONS", "Snapshot"]

_VERSION = 1

MAX_SNAPSHOT_BYTES = 256_000_000
"""Largest snapshot that is written or read: about 100,000 statements."""
MAX_VIOLATIONS = 1000
"""Violations of the directory that are kept one by one; those beyond are counted."""

# bytes.fromhex also takes spaces and capital letters, which this program never writes.
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A directory as far as it was read, and what its follower knows beside it."""

    history: History
    frontier: Frontier
    """The tree of the directory behind the last message that was read."""
    violations: tuple[Violation, ...]
    unlisted: int
    """How many violations were found beyond those."""
    proven: int
    """The largest view of an issuer whose statement counts."""
    altered: Place | None
    """Where the directory begins to differ from what an issuer saw."""

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        value = {
            "version": _VERSION,
            "genesis": self.history.latest.genesis.hex(),
            "changes": [_change_to_json(change) for change in self.history.changes],
            "tree": {
                "size": self.frontier.size,
                "peaks": [peak.hex() for peak in self.frontier.peaks],
                "leaves": [leaf.hex() for leaf in self.frontier.leaves],
            },
            "violations": [_violation_to_json(violation) for violation in self.violations],
            "unlisted": self.unlisted,
            "proven": self.proven,
            "altered": None if self.altered is None else self.altered.offset,
        }
        line = json.dumps(value, separators=(",", ":")).encode()
        return b"%s\n%s\n" % (sha256(line).hexdigest().encode(), line)

    @classmethod
    def from_bytes(cls, data: bytes, genesis: bytes) -> Self:
        """Read the content of a file, and fold its statements.

        Raises PeerError when the file is damaged, is of another version or coalition, or when what it holds
        does not fit together.
        """
        digest, _, rest = data.partition(b"\n")
        line = rest.removesuffix(b"\n")
        if digest != sha256(line).hexdigest().encode():
            raise FormatError("the snapshot is damaged: its digest is another")
        try:
            return cls._from_json(json.loads(line), genesis)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"the snapshot is malformed: {error!r}") from None

    @classmethod
    def _from_json(cls, value: Any, genesis: bytes) -> Self:
        if value["version"] != _VERSION:
            raise FormatError(f"the snapshot has the version {value['version']!r}, expected {_VERSION}")
        if value["genesis"] != genesis.hex():
            raise FormatError("the snapshot is of another coalition")
        tree = value["tree"]
        frontier = Frontier(
            _number(tree["size"]),
            tuple(_hash(peak) for peak in tree["peaks"]),
            tuple(_hash(leaf) for leaf in tree["leaves"]),
        )
        violations = tuple(_violation_from_json(item) for item in value["violations"])
        if len(violations) > MAX_VIOLATIONS:
            raise FormatError(f"the snapshot has {len(violations)} violations, expected {MAX_VIOLATIONS}")
        history = History.resume(genesis, [_change_from_json(item) for item in value["changes"]], frontier)
        return cls(
            history=history,
            frontier=frontier,
            violations=violations,
            unlisted=_number(value["unlisted"]),
            proven=_number(value["proven"]),
            altered=_place(value["altered"]),
        )


def _change_to_json(change: Change) -> dict[str, Any]:
    return {
        "size": change.size,
        "appended_at": change.appended_at,
        "value": b64encode(change.value).decode(),
        "root": change.root.hex(),
    }


def _change_from_json(value: Any) -> Change:
    return Change(
        size=_number(value["size"]),
        appended_at=_integer(value["appended_at"]),
        value=b64decode(value["value"], validate=True),
        root=_hash(value["root"]),
    )


def _violation_to_json(violation: Violation) -> dict[str, Any]:
    cause = violation.caused_by
    return {
        "kind": violation.kind.value,
        "offset": violation.place.offset,
        "detail": violation.detail,
        "count": violation.count,
        "caused_by": None if cause is None else cause.offset,
    }


def _violation_from_json(value: Any) -> Violation:
    return Violation(
        kind=Kind(value["kind"]),
        place=Place("directory", 0, _number(value["offset"])),
        detail=_text(value["detail"]),
        count=_number(value["count"]),
        caused_by=_place(value["caused_by"]),
    )


def _place(offset: object) -> Place | None:
    return None if offset is None else Place("directory", 0, _number(offset))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return value


def _number(value: object) -> int:
    found = _integer(value)
    if not 0 <= found <= MAX_OFFSET + 1:
        raise ValueError(f"{found} is no offset and no count")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _hash(value: object) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError(f"{value!r} is no hash")
    return bytes.fromhex(value)
