"""A coalition of fictional states for every test: keys, channels, epochs, and the directory's messages.

    coalition = Coalition.create()
    coalition.add(drafts.suspend_agency(...), *coalition.authority_keys)   # must be valid
    error = coalition.try_add(statement, key)                                       # None where it is valid

Keys come from names, so they are the same in every run; what is sealed differs, as HPKE draws its own.
The clock is explicit: one second for each statement, and ``advance`` for more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256, shake_256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.clock import DAY_US, HOUR_US, day_of
from broker.crypto.epoch import EpochKeys, epoch_seed
from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import (
    AUTHORITY,
    Directory,
    EpochKey,
    History,
    Use,
    confirm_channel_keys,
    directory_message,
    drafts,
    epoch_keys,
    header_for,
    make_channel_keys,
    sign_statement,
)
from broker.errors import PeerError
from broker.log.protocol import Log, Message, Partition, StoredMessage
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed
from broker.wire.statements import ChannelKind, KeyUse, Mandate, ServiceRole
from broker.wire.terms import LED_PURPOSES, WELFARE_PURPOSES, Purpose

__all__ = [
    "AGENCIES",
    "AUDITOR",
    "BORDER",
    "CARE",
    "DAY_US",
    "DIRECTORY",
    "HOUR_US",
    "JUSTICE",
    "KAS",
    "NOTARY",
    "POLICE_A",
    "POLICE_B",
    "RECORD_TYPES",
    "REHAB",
    "START_US",
    "Coalition",
    "receiving_key",
    "signing_key",
]

POLICE_A, BORDER, JUSTICE = "XAA:police", "XAA:border", "XBB:justice"
POLICE_B, CARE, REHAB = "XBB:police", "XCC:child-protection", "XDD:rehabilitation"
AGENCIES = (POLICE_A, BORDER, JUSTICE, POLICE_B, CARE, REHAB)
AUDITOR, KAS, NOTARY = "auditor", "kas", "notary"

RECORD_TYPES = ("EmergenceReport", "JusticeMeasure", "RehabilitationEvent", "RelocationEvent", "ReturnEvent")
PURPOSES: tuple[Purpose, ...] = tuple(sorted(LED_PURPOSES | WELFARE_PURPOSES))

DIRECTORY = Partition("directory", 0)

START_US = 20_000 * DAY_US + 9 * HOUR_US
"""Nine in the morning of 2024-10-04, day 20,000."""


@cache
def signing_key(label: str) -> SigningKey:
    """The signing key of this label, the same in every run."""
    return SigningKey.of(Ed25519PrivateKey.from_private_bytes(sha256(f"signing {label}".encode()).digest()))


@cache
def receiving_key(label: str) -> ReceivingKey:
    """The receiving key of this label, the same in every run."""
    private = shake_256(f"receiving {label}".encode()).digest(96)
    return ReceivingKey.of(
        MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    )


@dataclass
class Coalition:
    """A directory that grows statement by statement, with everybody's private keys at hand."""

    authority_keys: tuple[SigningKey, ...] = ()
    """The keys that sign for the authority: k of them, which is enough."""
    all_authority_keys: tuple[SigningKey, ...] = ()
    signing: dict[str, SigningKey] = field(default_factory=dict)
    receiving: dict[str, ReceivingKey] = field(default_factory=dict)
    intake: dict[int, ReceivingKey] = field(default_factory=dict)
    """The intake keys by day."""
    messages: list[StoredMessage] = field(default_factory=list)
    made: list[tuple[Statement, tuple[SigningKey, ...]]] = field(default_factory=list)
    """The valid statements, and who signed each."""
    history: History = field(default_factory=History)
    now: int = START_US

    @classmethod
    def create(cls, *, seeded: bool = True, days: int = 3, start_us: int = START_US) -> Coalition:
        """Six agencies, an auditor, a KAS with intake keys for ``days`` days, a notary, three channels.

        0 ``repatriation``: everybody, everything; 1 ``xaa-xbb``: the two police forces; 2 ``xbb-xdd``:
        justice and rehabilitation. Epoch 0 of each is published and confirmed. Unless ``seeded``, what
        is sealed is drawn anew; else it is the same within one run of the tests, which is faster.
        """
        return (_created(days, start_us) if seeded else _create(days, start_us)).copy()

    @classmethod
    def live(cls, *, days: int = 3) -> Coalition:
        """The same coalition at today's date, for tests that write to a log, whose clock is the real one."""
        return cls.create(days=days, start_us=_started_us())

    @classmethod
    def found(cls, *, n: int = 3, k: int = 2, start_us: int = START_US) -> Coalition:
        """A coalition of nothing but its authority, k of n."""
        keys = tuple(signing_key(f"authority {i}") for i in range(n))
        coalition = cls(authority_keys=keys[:k], all_authority_keys=keys, now=start_us)
        genesis = drafts.found_coalition(
            coalition="Exercise Amber",
            authority_keys=[key.public for key in keys],
            threshold=k,
            issued_at=coalition.now,
        )
        coalition.add(genesis, *keys)
        return coalition

    def copy(self) -> Coalition:
        """The same coalition, to go on from here on its own."""
        return replace(
            self,
            signing=dict(self.signing),
            receiving=dict(self.receiving),
            intake=dict(self.intake),
            messages=list(self.messages),
            made=list(self.made),
            history=self.history.copy(),
        )

    @property
    def directory(self) -> Directory:
        """The directory now."""
        return self.history.latest

    @property
    def genesis(self) -> bytes:
        """What participants pin."""
        return self.directory.genesis

    @property
    def day(self) -> int:
        """Today, counted from 1970-01-01."""
        return day_of(self.now)

    def advance(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Let time pass."""
        self.now += round((hours * 3600 + seconds) * 1_000_000)

    def sign(self, statement: Statement, *keys: SigningKey) -> Signed:
        """The statement signed with these keys in this coalition."""
        return sign_statement(statement, keys, self.genesis)

    def add(self, statement: Statement, *keys: SigningKey, at: int | None = None) -> Signed:
        """Sign and append a statement that must be valid."""
        signed = self.sign(statement, *keys)
        if (error := self.append(directory_message(signed)[1], at=at)) is not None:
            raise error
        self.made.append((statement, keys))
        return signed

    def try_add(self, statement: Statement, *keys: SigningKey, at: int | None = None) -> PeerError | None:
        """Sign and append a statement; returns why it does not count, if it does not."""
        return self.append(directory_message(self.sign(statement, *keys))[1], at=at)

    def append(
        self, value: bytes | None, *, key: bytes | None = b"", at: int | None = None
    ) -> PeerError | None:
        """Append any message whatever; returns why it does not count, if it does not."""
        self.now = self.now + 1_000_000 if at is None else at
        return self._take(StoredMessage(len(self.messages), key, value, self.now))

    def _take(self, message: StoredMessage) -> PeerError | None:
        self.messages.append(message)
        self.now = message.appended_at
        return self.history.extend(message)

    @classmethod
    def replay(cls, messages: Sequence[StoredMessage], genesis: bytes | None = None) -> History:
        """The history that these messages make on their own."""
        return History.replay(messages, genesis)

    @classmethod
    async def on(cls, log: Log) -> Coalition:
        """The live coalition as it is on this log."""
        messages = [message async for message in log.read(DIRECTORY, 0)]
        history = History.replay(messages)
        return replace(cls.live(), messages=messages, history=history, now=messages[-1].appended_at)

    async def write_to(self, log: Log) -> Coalition:
        """Make every valid statement again on a log; returns the coalition that is there.

        The roots cover append times, and the log has its own clock: so headers and signatures
        are new, and genesis, keys, names and epochs are the same. Intake keys are announced for days
        close to the clock: use ``Coalition.live()``.
        """
        await log.ensure(DIRECTORY.topic, 1)
        other = replace(self.copy(), messages=[], made=[], history=History())
        for statement, keys in self.made:
            await other.add_to(log, other.updated(statement), *keys)
        return other

    async def add_to(self, log: Log, statement: Statement, *keys: SigningKey) -> Signed:
        """Sign a statement that must be valid and append it to the log on which this coalition is."""
        signed = self.sign(statement, *keys)
        offset = await log.append(DIRECTORY, [Message(*directory_message(signed))])
        async for message in log.read(DIRECTORY, offset):
            if (error := self._take(message)) is not None:
                raise error
        self.made.append((statement, keys))
        return signed

    def updated(self, statement: Statement) -> Statement:
        """The same statement as it would be made now."""
        issuer, issued_at = statement.header.issuer, statement.header.issued_at
        previous = self.directory.authority.last if issuer == AUTHORITY else bytes(32)
        header = header_for(self.directory, issuer, issued_at=issued_at, previous=previous)
        return replace(statement, header=header)

    def add_agency(self, name: str) -> None:
        """Admit an agency with keys of its name."""
        self.signing[name], self.receiving[name] = signing_key(name), receiving_key(name)
        statement = drafts.admit_agency(
            self.directory,
            agency=name,
            title=f"Agency {name}",
            signing_key=self.signing[name].public,
            receiving_key=self.receiving[name].public,
            issued_at=self.now,
        )
        self.add(statement, *self.authority_keys, self.signing[name])

    def add_auditor(self, name: str = AUDITOR, channels: Sequence[str] = ()) -> None:
        """Appoint an auditor with keys of its name, for the first time."""
        self.signing[name], self.receiving[name] = signing_key(name), receiving_key(name)
        statement = drafts.appoint_auditor(
            self.directory,
            auditor=name,
            title=f"Auditor {name}",
            signing_key=self.signing[name].public,
            receiving_key=self.receiving[name].public,
            channels=channels,
            issued_at=self.now,
        )
        self.add(statement, *self.authority_keys, self.signing[name])

    def add_service(self, name: str, role: ServiceRole, *, receives: bool = False) -> None:
        """Announce the first keys of a role."""
        self.signing[name] = signing_key(name)
        uses = [(KeyUse.SIGNING, self.signing[name].public)]
        if receives:
            self.receiving[name] = receiving_key(name)
            uses.append((KeyUse.RECEIVING, self.receiving[name].public))
        for use, public in uses:
            statement = drafts.announce_service_key(
                self.directory, service=name, role=role, use=use, public_key=public, issued_at=self.now
            )
            self.add(statement, *self.authority_keys, self.signing[name])

    def add_intake_key(self, day: int) -> None:
        """Announce the KAS's intake key of a day, at most 15 days ahead."""
        self.intake[day] = receiving_key(f"intake {day}")
        statement = drafts.announce_intake_key(
            self.directory, service=KAS, public_key=self.intake[day].public, day=day, issued_at=self.now
        )
        self.add(statement, self.signing[KAS])

    def tell_time(self, *, issued_at: int | None = None, at: int | None = None) -> None:
        """The KAS says what time it is: now, unless told otherwise."""
        issued_at = self.now if issued_at is None else issued_at
        told = drafts.tell_time(self.directory, service=KAS, issued_at=issued_at)
        self.add(told, self.signing[KAS], at=at)

    def wait(self, *, hours: float = 0) -> None:
        """Let time pass by the directory's clock."""
        self.tell_time()
        self.advance(hours=hours)
        self.tell_time()

    def open_channel(
        self,
        name: str,
        number: int,
        members: Sequence[str],
        *,
        auditors: Sequence[str] = (AUDITOR,),
        record_types: Sequence[str] = RECORD_TYPES,
        purposes: Sequence[Purpose] = PURPOSES,
        ceiling_days: int = 3650,
        kind: ChannelKind | None = None,
        mandates: Sequence[Mandate] = (),
        epoch: bool = True,
    ) -> None:
        """Open a channel, with its first epoch published and confirmed unless told otherwise."""
        statement = drafts.open_channel(
            self.directory,
            channel=name,
            number=number,
            members=members,
            auditors=auditors,
            record_types=record_types,
            purposes=purposes,
            legal_basis="Exercise treaty, article 7",
            ceiling_days=ceiling_days,
            kind=kind,
            mandates=mandates,
            issued_at=self.now,
        )
        self.add(statement, *self.authority_keys)
        if epoch:
            self.new_epoch(name, members[0])

    def new_epoch(self, channel: str, publisher: str, *, confirm: bool = True) -> None:
        """A member publishes the channel's next epoch, and the KAS confirms it."""
        published = make_channel_keys(self.directory, channel, publisher, self.now)
        self.add(published, self.signing[publisher])
        if confirm:
            confirmed = confirm_channel_keys(self.directory, channel, KAS, self.now)
            self.add(confirmed, self.signing[KAS])

    def suspend(self, agency: str) -> None:
        """The authority suspends an agency."""
        statement = drafts.suspend_agency(
            self.directory, agency=agency, reason="exercise", issued_at=self.now
        )
        self.add(statement, *self.authority_keys)

    def reinstate(self, agency: str) -> None:
        """The authority ends a suspension."""
        statement = drafts.reinstate_agency(self.directory, agency=agency, issued_at=self.now)
        self.add(statement, *self.authority_keys)

    def keys_of(self, name: str) -> dict[bytes, ReceivingKey]:
        """The receiving keys that this party holds, by key id."""
        return {self.receiving[name].key_id: self.receiving[name]}

    def epoch_keys(self, channel: str, epoch: int, name: str) -> dict[Use, EpochKey]:
        """The keys of an epoch that this party can open, by use."""
        return epoch_keys(self.directory, channel, epoch, name, self.keys_of(name))

    def member_keys(
        self, channel: str, epoch: int, genesis: bytes | None = None
    ) -> tuple[EpochKeys, EpochKeys]:
        """The metadata and content keys of an epoch, which every member of its time holds.

        With another genesis, they are those that the same halves give in another coalition.
        """
        bound_to = genesis or self.genesis
        found = self.directory.channels[channel].epochs[epoch]
        keys = self.epoch_keys(channel, epoch, min(found.content.offers))
        metadata, content = (
            EpochKeys.of(epoch_seed(bound_to, channel, epoch, use, (keys[use].halves,)), bound_to)
            for use in ("metadata", "content")
        )
        return metadata, content


def _create(days: int, start_us: int) -> Coalition:
    coalition = Coalition.found(start_us=start_us)
    for name in AGENCIES:
        coalition.add_agency(name)
    coalition.add_service(KAS, ServiceRole.KAS, receives=True)
    coalition.add_service(NOTARY, ServiceRole.NOTARY)
    coalition.add_auditor()
    for day in range(coalition.day, coalition.day + days):
        coalition.add_intake_key(day)
    mandate = Mandate(
        ref="XBB-2024-17", agency=POLICE_B, purposes=(Purpose.INVESTIGATION, Purpose.PREVENTION)
    )
    coalition.open_channel("repatriation", 0, AGENCIES, mandates=[mandate])
    coalition.open_channel("xaa-xbb", 1, [POLICE_A, POLICE_B])
    coalition.open_channel("xbb-xdd", 2, [JUSTICE, REHAB])
    return coalition


_created = cache(_create)


@cache
def _started_us() -> int:
    """Half a minute before the first live coalition of this run was made: its statements lie in the past."""
    return time.time_ns() // 1000 - 30_000_000
