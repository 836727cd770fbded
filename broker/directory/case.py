"""A case: one signed statement and the directory that judges it.

These four rules hold for the header of every statement, whatever it says. ``check_header`` checks them
before the rule of the statement's kind is asked:

    (1) it stands in ftf.directory, partition 0, and outside of epochs and streams
    (2) its issuer saw our directory: it names a view that ours had, size and root
    (3) a statement of the authority follows the authority's last one; any other follows none
    (4) it did not count before

For signatures one rule holds: distinct keys made them, every key may sign this statement in the state
before it, and every signature verifies. A single foreign or wrong signature makes a statement invalid,
whatever other signatures it has. So nobody can slip a signature under a statement that its signers did
not see there, and a statement means the same to everybody who counts its signatures.
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

__all__ = [
    "Case",
    "check_header",
    "check_issuer",
    "check_name",
    "check_text",
    "unsuspended_party",
]

_TOPIC = "directory"
_NO_STREAM = bytes(16)
_MAX_TEXT = 200
"""Characters of a name for people, a reason or a detail."""

_NO_KEYS: Mapping[bytes, bytes] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One signed statement, the directory before it, and its append time.

    In all methods, keys are public keys by key id.
    """

    before: Directory
    signed: Signed
    digest: bytes
    """SHA-256 of the statement's content. Signatures are not part of it."""
    appended_at: int
    """The append time of the message, in microseconds. It is for the rule of ``directory-clock`` alone."""

    def signed_by_authority(
        self, required: Mapping[bytes, bytes] = _NO_KEYS, optional: Mapping[bytes, bytes] = _NO_KEYS
    ) -> frozenset[bytes]:
        """Check that k authority keys and all ``required`` keys signed, and return the ids of all signers.

        ``optional`` keys may sign too; any other signature is refused. Raises SignatureInvalid.
        """
        authority = self.before.authority
        keys = {signing_key_id(public): public for public in authority.keys}
        signers = self.signers({**keys, **required, **optional})
        self._check_required(signers, required)
        # Stands against a minority of the authority: fewer than k holders say nothing in its name.
        count = len(signers & keys.keys())
        if count < authority.threshold:
            raise SignatureInvalid(
                f"'{self.signed.kind}' has {count} of the {authority.threshold} authority signatures that "
                "it needs"
            )
        return signers

    def signed_by_party(
        self,
        name: str,
        required: Mapping[bytes, bytes] = _NO_KEYS,
        optional: Mapping[bytes, bytes] = _NO_KEYS,
    ) -> frozenset[bytes]:
        """Check that an active key of this party and all ``required`` keys signed, and return all signers.

        ``optional`` keys may sign too; any other signature is refused. Raises SignatureInvalid, or
        NotEntitled when the party is suspended or does not exist.
        """
        keys = self.active_keys(name)
        signers = self.signers({**keys, **required, **optional})
        self._check_required(signers, required)
        # A required key proves its own possession and vouches for nothing, least of all for itself.
        if not signers & keys.keys() - required.keys():
            raise SignatureInvalid(f"no active key of {name[:80]!r} signed this '{self.signed.kind}'")
        return signers

    def signers(self, allowed: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """Check every signature and return the ids of the keys that signed.

        Raises SignatureInvalid when a key signed twice, is not among ``allowed``, or does not verify.
        """
        kind = self.signed.kind
        ids = [signature.key_id for signature in self.signed.signatures]
        # Stands against one holder of an authority key who signs k times.
        if len(set(ids)) != len(ids):
            raise SignatureInvalid(f"the same key signed '{kind}' twice")
        # All ids are checked before the first signature is verified, because verifying is what costs: a
        # stranger's statement with ten thousand signatures is refused for the price of a look-up.
        for key_id in ids:
            if key_id not in allowed:
                raise SignatureInvalid(f"key {key_id.hex()} signed and may not sign this '{kind}'")
        # The genesis hash stands against statements replayed from an exercise or another coalition.
        genesis = self.before.genesis
        for signature in self.signed.signatures:
            verify(allowed[signature.key_id], kind, genesis, self.signed.content, signature.signature)
        return frozenset(ids)

    def active_keys(self, name: str) -> dict[bytes, bytes]:
        """Return the active signing keys of a party; raises NotEntitled when the party is suspended."""
        party = unsuspended_party(self.before, name)
        return {key.key_id: key.public for key in party.active(KeyUse.SIGNING)}

    def is_older(self, header: Header, age_us: int) -> bool:
        """Tell whether this header was signed longer ago than this, by the directory's clock."""
        return self.before.clocks.is_older(age_us, issued_at=header.issued_at, size=header.directory_size)

    def _check_required(self, signers: frozenset[bytes], required: Mapping[bytes, bytes]) -> None:
        for key_id in required:
            if key_id not in signers:
                raise SignatureInvalid(f"key {key_id.hex()} must sign this '{self.signed.kind}' itself")


def unsuspended_party(directory: Directory, name: str) -> Party:
    """Return the party of this name; raises NotEntitled when there is none or when it is suspended."""
    party = directory.parties.get(name)
    if party is None:
        raise NotEntitled(f"nobody in the directory is called {name[:80]!r}")
    if party.suspended:
        raise NotEntitled(f"'{name}' is suspended")
    return party


def check_header(before: Directory, header: Header, digest: bytes) -> None:
    """Raise FormatError or NotEntitled unless rules (1) to (4) above hold for this header."""
    # (1) Stands against a statement of another topic or stream that is taken here.
    place = (header.topic, header.partition, header.epoch, header.stream, header.sequence)
    if place != (_TOPIC, 0, -1, _NO_STREAM, 0):
        raise FormatError(
            "a directory statement has topic 'directory', partition 0, epoch -1, no stream and sequence 0, "
            f"this one has topic {header.topic[:80]!r}, partition {header.partition}, epoch {header.epoch}, "
            f"stream {header.stream.hex()} and sequence {header.sequence}"
        )
    # (2) Stands against a forked directory: an issuer to whom the operator of the log showed other messages
    # names a view that ours never had. An older view of ours is fine, because others append meanwhile.
    size = header.directory_size
    if not 0 <= size <= before.size:
        raise NotEntitled(f"directory_size is {size}, expected 0 to the directory's size {before.size}")
    root = before.roots.get(size)
    if header.directory_root != root:
        ours = "no view of ours" if root is None else root.hex()
        raise NotEntitled(
            f"directory_root at size {size} is {header.directory_root.hex()}, expected {ours}: "
            "the issuer saw another directory"
        )
    # (3) Stands against an operator who drops or reorders statements of the authority, such as a suspension:
    # the next one then has no predecessor here.
    expected = before.authority.last if header.issuer == AUTHORITY else NO_DIGEST
    if header.previous != expected:
        raise NotEntitled(f"previous is {header.previous.hex()}, expected {expected.hex()}")
    # (4) Stands against replay: an agency's statements form no chain, so that an old departure or revocation
    # could be appended again. The digest leaves signatures out, so that other signatures do not help.
    if digest in before.applied:
        raise NotEntitled(f"this statement has counted already, at place {before.applied[digest]}")


def check_issuer(header: Header, expected: str) -> None:
    """Raise NotEntitled unless the header names this issuer."""
    if header.issuer != expected:
        raise NotEntitled(f"issuer is {header.issuer[:80]!r}, expected {expected[:80]!r}")


def check_name(name: str, pattern: re.Pattern[str], bearer: str) -> None:
    """Raise FormatError unless the whole name matches; ``bearer`` says whose name it is ("an agency")."""
    # fullmatch, because `$` would let a name through that ends in a line break.
    if not pattern.fullmatch(name):
        raise FormatError(f"{name[:80]!r} is not a valid name of {bearer}")


def check_text(text: str, field: str, *, most: int = _MAX_TEXT) -> None:
    """Raise FormatError unless the text has 1 to ``most`` characters."""
    if not 1 <= len(text) <= most:
        raise FormatError(f"the {field} has {len(text)} characters, expected 1 to {most}")
