"""The directory: who takes part, with which keys, in which channels, as one immutable value.

A ``Directory`` is the fold of the first ``size`` messages of ``ftf.directory``. Values share their
structure, so that keeping every one of them (see ``history``) costs little, and "who was entitled
when" is a query on the value of that size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from immutables import Map

from broker.crypto.sign import NO_GENESIS
from broker.directory.channel import Channel, Use
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
"""Stands for a digest where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The coalition's authority: k of n keys, and the digest of its last statement."""

    keys: tuple[bytes, ...]
    threshold: int
    last: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What the first ``size`` messages of the directory say; ``clock`` is the latest append time so far."""

    size: int
    head: bytes
    clock: int
    pinned: bytes | None = field(compare=False)
    genesis: bytes
    coalition: str
    authority: Authority
    parties: Map[str, Party]
    owners: Map[bytes, str]
    """Whose each public key is that was ever registered, by key id: no key is registered twice."""
    channels: Map[str, Channel]
    numbers: Map[int, str]
    kas_name: str | None
    intake_keys: Map[bytes, IntakeKey]
    intake_days: Map[tuple[str, int], bytes]
    pending: tuple[PendingKey, ...]
    heads: Map[int, bytes]
    """The running hash at every size up to this one."""
    applied: Map[bytes, int]
    """Digests of the statements that counted."""

    @classmethod
    def empty(cls, genesis: bytes | None = None) -> Directory:
        """The directory before its first message; ``genesis`` pins the hash that this must have."""
        return cls(
            size=0,
            head=bytes(32),
            clock=0,
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
            pending=(),
            heads=Map({0: bytes(32)}),
            applied=Map(),
        )

    def head_at(self, size: int) -> bytes | None:
        """The running hash at an earlier size; None beyond the end."""
        return self.heads.get(size)

    def signer(self, issuer: str, key_id: bytes) -> bytes:
        """The public key by which ``issuer`` may sign now; else NotEntitled, which says what is wrong."""
        party = self.parties.get(issuer)
        if party is None:
            raise NotEntitled(f"nobody in the directory is called {issuer[:80]!r}")
        key = party.keys.get(key_id)
        if key is None or key.use is not KeyUse.SIGNING:
            raise NotEntitled(f"{key_id.hex()} is no signing key of {issuer[:80]!r}")
        if key.state is not KeyState.ACTIVE:
            raise NotEntitled(f"signing key {key_id.hex()} of '{issuer}' is {key.state.lower()}")
        if party.suspended:
            raise NotEntitled(f"'{issuer}' is suspended")
        return key.public

    def agency(self, name: str) -> Agency | None:
        """The agency of this name, suspended or not."""
        return self._of_kind(name, PartyKind.AGENCY)

    def auditor(self, name: str) -> Party | None:
        """The auditor of this name, dismissed or not."""
        return self._of_kind(name, PartyKind.AUDITOR)

    def service(self, name: str) -> Party | None:
        """The service of this name."""
        party = self.parties.get(name)
        return party if party and party.kind not in (PartyKind.AGENCY, PartyKind.AUDITOR) else None

    def _of_kind(self, name: str, kind: PartyKind) -> Party | None:
        party = self.parties.get(name)
        return party if party and party.kind is kind else None

    def receiving_key(self, name: str) -> tuple[bytes, bytes]:
        """(key_id, public) of the newest active receiving key of this party; NotEntitled where none."""
        keys = self.receiving_keys(name)
        if not keys:
            raise NotEntitled(f"'{name}' has no active receiving key")
        return keys[0].key_id, keys[0].public

    def receiving_keys(self, name: str) -> tuple[Key, ...]:
        """All active receiving keys of this party, the newest first."""
        party = self.parties.get(name)
        return party.active(KeyUse.RECEIVING) if party else ()

    def channel(self, name: str) -> Channel | None:
        """The channel of this name, open or closed."""
        return self.channels.get(name)

    def channel_at(self, number: int) -> Channel | None:
        """The channel whose partition this is, open or closed."""
        name = self.numbers.get(number)
        return None if name is None else self.channels[name]

    def intake_key(self, day: int) -> IntakeKey | None:
        """The key to seal release secrets to on this day since 1970-01-01: the first announced for it."""
        if self.kas_name is None:
            return None
        key_id = self.intake_days.get((self.kas_name, day))
        return None if key_id is None else self.intake_keys.get(key_id)

    def recipients(self, channel_name: str, use: Use) -> tuple[Recipient, ...]:
        """Who must be sealed the seed of this use now, sorted by name.

        Metadata: members, auditors, KAS; content: members; access: auditors, KAS. Who is suspended, or
        has no active receiving key, is left out.
        """
        channel = self.channels.get(channel_name)
        if channel is None:
            raise NotEntitled(f"there is no channel {channel_name[:80]!r}")
        names: set[str] = set()
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
