"""The directory as one immutable value: who takes part, with which keys, and in which channels.

A ``Directory`` is what the first ``size`` messages of ``ftf.directory`` say together. ``fold`` computes
the next value from a message; nothing changes a value that exists. Two values that follow each other
share almost all of their structure. That is why ``history`` can keep every value, and why the question
"who was entitled then" is a look-up in the value of that size.

A *view* of the directory is its size behind the last message that changed it, and the root of the tree of
its partition there. Messages that change nothing make no new view, however many of them somebody appends.

This module holds the value and its look-ups alone. It imports no rule: the rules import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from immutables import Map

from broker.crypto.log_tree import EMPTY_ROOT
from broker.crypto.sign import NO_GENESIS
from broker.directory.channel import Channel, Use
from broker.directory.clocks import Clocks
from broker.directory.party import (
    Agency,
    IntakeKey,
    Key,
    KeyState,
    Party,
    PartyKind,
    PendingKey,
    Recipient,
)
from broker.errors import NotEntitled
from broker.wire.statements import KeyUse

__all__ = ["NO_DIGEST", "Authority", "Directory"]

NO_DIGEST = bytes(32)
"""Stands in the field ``previous`` of a statement that follows no other statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The coalition's authority: its n keys, and how many of them must sign."""

    keys: tuple[bytes, ...]
    """The n public keys."""
    threshold: int
    """How many different keys must sign a statement of the authority: k, always a majority of the n."""
    last: bytes
    """Digest of the authority's last statement that counted. The next one must name it as ``previous``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What the first ``size`` messages of ``ftf.directory`` say.

    Only ``history`` sets ``root`` and ``roots``. Only ``fold`` sets ``size``, ``applied`` and the
    authority's ``last``. Only the rules set the other fields.
    """

    size: int
    """The size behind the last message that changed the directory."""
    root: bytes
    """The root of the partition's tree at this size (``broker.crypto.log_tree``)."""
    # Not compared: participants that pin the genesis and those that do not must find equal directories.
    pinned: bytes | None = field(compare=False)
    """The genesis hash that this participant expects; None when it takes the first genesis that comes."""
    genesis: bytes
    """Digest of the genesis statement. It is in every signature, and so binds it to this coalition."""
    coalition: str
    """Name of the coalition, for people."""
    authority: Authority
    parties: Map[str, Party]
    """Every agency, auditor and service by name. A party is never removed."""
    owners: Map[bytes, str]
    """Who registered each public key, by key id. No key is registered twice, not even after revocation."""
    channels: Map[str, Channel]
    """Every channel by name, closed ones too."""
    numbers: Map[int, str]
    """The name of each channel by number, which is its partition in every topic."""
    kas_name: str | None
    """The name of the key access service (KAS) in charge; None before the first one has a key."""
    intake_keys: Map[bytes, IntakeKey]
    """Intake keys that are not revoked, by key id."""
    intake_days: Map[tuple[str, int], bytes]
    """The id of the intake key of each service and day."""
    clocks: Clocks
    """What the key access service said the time was. Every wait in the directory counts by it."""
    pending: tuple[PendingKey, ...]
    """Keys that were announced and have not taken effect yet."""
    roots: Map[int, bytes]
    """The root of each view up to this one, by size."""
    applied: Map[bytes, int]
    """The digest of each statement that counted, and its place in the directory, counted from 0."""

    @classmethod
    def empty(cls, genesis: bytes | None = None) -> Directory:
        """Return the directory before its first message.

        ``genesis`` pins the coalition: a genesis statement with another digest does not count.
        """
        return cls(
            size=0,
            root=EMPTY_ROOT,
            pinned=genesis,
            genesis=NO_GENESIS,
            coalition="",
            authority=Authority(keys=(), threshold=0, last=NO_DIGEST),
            parties=Map(),
            owners=Map(),
            channels=Map(),
            numbers=Map(),
            kas_name=None,
            intake_keys=Map(),
            intake_days=Map(),
            clocks=Clocks(),
            pending=(),
            roots=Map({0: EMPTY_ROOT}),
            applied=Map(),
        )

    def with_root(self, root: bytes) -> Directory:
        """Return the same directory with the root of its partition's tree at its size."""
        return replace(self, root=root, roots=self.roots.set(self.size, root))

    def signer(self, issuer: str, key_id: bytes) -> bytes:
        """Return the public key ``key_id`` of ``issuer``, with which it may sign now.

        Raises NotEntitled when no such party or key exists, when the key is not active, or when the
        party is suspended. The message says which of these is the case.
        """
        party = self.parties.get(issuer)
        if party is None:
            raise NotEntitled(f"nobody in the directory is called {issuer[:80]!r}")
        key = party.keys.get(key_id)
        if key is None or key.use is not KeyUse.SIGNING:
            raise NotEntitled(f"key {key_id.hex()} is not a signing key of {issuer[:80]!r}")
        if key.state is not KeyState.ACTIVE:
            raise NotEntitled(f"signing key {key_id.hex()} of '{issuer}' is {key.state.lower()}")
        if party.suspended:
            raise NotEntitled(f"'{issuer}' is suspended")
        return key.public

    def is_revoked(self, key_id: bytes) -> bool:
        """Whether a key of anybody is revoked, which is for good."""
        party = self.parties.get(self.owners.get(key_id, ""))
        key = party.keys.get(key_id) if party else None
        return key is not None and key.state is KeyState.REVOKED

    def agency(self, name: str) -> Agency | None:
        """Return the agency of this name, suspended or not, or None."""
        return self._of_kind(name, PartyKind.AGENCY)

    def auditor(self, name: str) -> Party | None:
        """Return the auditor of this name, dismissed or not, or None."""
        return self._of_kind(name, PartyKind.AUDITOR)

    def service(self, name: str) -> Party | None:
        """Return the service of this name, or None."""
        party = self.parties.get(name)
        return party if party and party.kind not in (PartyKind.AGENCY, PartyKind.AUDITOR) else None

    def _of_kind(self, name: str, kind: PartyKind) -> Party | None:
        party = self.parties.get(name)
        return party if party and party.kind is kind else None

    def receiving_key(self, name: str) -> tuple[bytes, bytes]:
        """Return (key id, public key) of the party's newest active receiving key.

        Raises NotEntitled when the party has no active receiving key.
        """
        keys = self.receiving_keys(name)
        if not keys:
            raise NotEntitled(f"'{name}' has no active receiving key")
        return keys[0].key_id, keys[0].public

    def receiving_keys(self, name: str) -> tuple[Key, ...]:
        """Return all active receiving keys of this party, the newest first."""
        party = self.parties.get(name)
        return party.active(KeyUse.RECEIVING) if party else ()

    def channel(self, name: str) -> Channel | None:
        """Return the channel of this name, open or closed, or None."""
        return self.channels.get(name)

    def channel_at(self, number: int) -> Channel | None:
        """Return the channel with this number, open or closed, or None."""
        name = self.numbers.get(number)
        return None if name is None else self.channels[name]

    def intake_key(self, day: int) -> IntakeKey | None:
        """Return the KAS's key to which release secrets are sealed on this day, or None.

        Days are counted from 1970-01-01. The first key that was announced for a day is the day's key.
        """
        if self.kas_name is None:
            return None
        key_id = self.intake_days.get((self.kas_name, day))
        return None if key_id is None else self.intake_keys.get(key_id)

    def recipients(self, channel_name: str, use: Use) -> tuple[Recipient, ...]:
        """Return the parties to which a new seed of this use must be sealed, sorted by name.

        A metadata seed goes to members, auditors and the KAS; a content seed to members; an access seed
        to auditors and the KAS. A party that is suspended, or has no active receiving key, is left out.
        Raises NotEntitled when there is no such channel.
        """
        channel = self.channels.get(channel_name)
        if channel is None:
            raise NotEntitled(f"there is no channel {channel_name[:80]!r}")
        names: set[str] = set()
        # No content seed goes to an auditor or to the KAS: neither of them can ever open a record.
        if use in ("metadata", "content"):
            names |= channel.members
        if use in ("metadata", "access"):
            names |= channel.auditors
            if self.kas_name is not None:
                names.add(self.kas_name)
        found = []
        for name in sorted(names):
            party = self.parties[name]
            keys = party.active(KeyUse.RECEIVING)
            if keys and not party.suspended:
                found.append(Recipient(name=name, key_id=keys[0].key_id, public=keys[0].public))
        return tuple(found)
