"""A statement before the directory that judges it: its header, and who signed.

Whatever a statement says, these hold first:

    (1) it stands in ftf.directory, partition 0, outside epochs and streams
    (2) its issuer saw our directory: the head it names is ours at the size it names
    (3) an authority's statement follows the authority's last one; all others follow none
    (4) it did not count before

Signatures are by distinct keys, each entitled in the state before, and every one verifies: a
statement with one foreign or wrong signature is invalid whatever else it carries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from broker.crypto.sign import signing_key_id, verify
from broker.directory.directory import NO_DIGEST, Directory
from broker.directory.party import AUTHORITY, Party
from broker.errors import FormatError, NotEntitled, SignatureInvalid
from broker.wire.manifest import Header, Signed
from broker.wire.statements import KeyUse

__all__ = ["NO_KEYS", "Case", "check_header", "check_issuer", "check_name", "check_text", "known_party"]

TOPIC = "directory"
NO_STREAM = bytes(16)
MAX_TEXT = 200
"""Characters of a name for people, a reason or a detail."""

NO_KEYS: Mapping[bytes, bytes] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One signed statement, the state before it, and the append time at which it is judged."""

    before: Directory
    signed: Signed
    digest: bytes
    now: int

    def signed_by_authority(
        self, required: Mapping[bytes, bytes] = NO_KEYS, optional: Mapping[bytes, bytes] = NO_KEYS
    ) -> frozenset[bytes]:
        """Who signed; raises unless k authority keys and all ``required`` ones did, and nobody foreign."""
        authority = self.before.authority
        keys = {signing_key_id(public): public for public in authority.keys}
        signers = self.signers({**keys, **required, **optional})
        self._require(signers, required)
        count = len(signers & keys.keys())
        if count < authority.threshold:
            raise SignatureInvalid(
                f"{count} of {authority.threshold} authority signatures on '{self.signed.kind}'"
            )
        return signers

    def signed_by_party(self, name: str, required: Mapping[bytes, bytes] = NO_KEYS) -> frozenset[bytes]:
        """The active keys of this party that signed; raises where none did, or somebody else did."""
        keys = self.active_keys(name)
        signers = self.signers({**keys, **required})
        self._require(signers, required)
        own = signers & keys.keys() - required.keys()
        if not own:
            raise SignatureInvalid(f"no signature by an active key of {name[:80]!r} on '{self.signed.kind}'")
        return own

    def signers(self, allowed: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """The ids of the keys that signed: distinct, all among ``allowed`` and all valid; else raises."""
        kind, content = self.signed.kind, self.signed.content
        ids = [signature.key_id for signature in self.signed.signatures]
        if len(set(ids)) != len(ids):
            raise SignatureInvalid(f"one key signed '{kind}' twice")
        for key_id in ids:  # all of them before the first is verified: that is what costs
            if key_id not in allowed:
                raise SignatureInvalid(f"signature by key {key_id.hex()}, which may not sign this '{kind}'")
        for signature in self.signed.signatures:
            verify(allowed[signature.key_id], kind, self.before.genesis, content, signature.signature)
        return frozenset(ids)

    def active_keys(self, name: str) -> dict[bytes, bytes]:
        """The active signing keys of a party that is not suspended, by id."""
        party = known_party(self.before, name)
        return {key.key_id: key.public for key in party.active(KeyUse.SIGNING)}

    def _require(self, signers: frozenset[bytes], required: Mapping[bytes, bytes]) -> None:
        for key_id in required:
            if key_id not in signers:
                raise SignatureInvalid(f"key {key_id.hex()} must sign this '{self.signed.kind}' itself")


def known_party(directory: Directory, name: str) -> Party:
    """The party of this name, if there is one that is not suspended."""
    party = directory.parties.get(name)
    if party is None:
        raise NotEntitled(f"nobody in the directory is called {name[:80]!r}")
    if party.suspended:
        raise NotEntitled(f"'{name}' is suspended")
    return party


def check_header(before: Directory, header: Header, digest: bytes) -> None:
    """Raise unless the header holds in this directory; the numbers are those above."""
    # (1)
    place = (header.topic, header.partition, header.epoch, header.stream, header.sequence)
    if place != (TOPIC, 0, -1, NO_STREAM, 0):
        where = f"{header.topic[:80]!r}, {header.partition}, {header.epoch}"
        raise FormatError(
            f"a directory statement stands in 'directory', 0, -1, outside streams, not in {where}"
        )
    # (2)
    if not 0 <= header.directory_size <= before.size:
        raise NotEntitled(
            f"directory_size {header.directory_size} is beyond the directory's end {before.size}"
        )
    if header.directory_head != before.head_at(header.directory_size):
        raise NotEntitled(f"directory_head at size {header.directory_size} is not ours: a fork")
    # (3)
    expected = before.authority.last if header.issuer == AUTHORITY else NO_DIGEST
    if header.previous != expected:
        raise NotEntitled(f"previous is {header.previous.hex()}, expected {expected.hex()}")
    # (4)
    if digest in before.applied:
        raise NotEntitled(f"a repeat of the statement at {before.applied[digest]}")


def check_issuer(header: Header, expected: str) -> None:
    """Raise unless the header names this issuer."""
    if header.issuer != expected:
        raise NotEntitled(f"issuer is {header.issuer[:80]!r}, expected {expected[:80]!r}")


def check_name(name: str, pattern: re.Pattern[str], what: str) -> str:
    """Return the name if all of it matches; else FormatError."""
    if not pattern.fullmatch(name):
        raise FormatError(f"{name[:80]!r} is no name of {what}")
    return name


def check_text(text: str, what: str, *, most: int = MAX_TEXT, least: int = 1) -> str:
    """Return the text if its length is within bounds; else FormatError."""
    if not least <= len(text) <= most:
        raise FormatError(f"{what} of {len(text)} characters, expected {least} to {most}")
    return text
