"""Two agencies, an auditor and a key access service on a log, with every private key at hand.

Keys come from names, so that another process of the same run has them without being given any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, shake_256
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.avro.schema import default_store
from broker.clock import day_of, system_clock
from broker.crypto.seal import ReceivingKey
from broker.crypto.sign import SigningKey
from broker.directory import (
    Channel,
    Directory,
    History,
    confirm_channel_keys,
    directory_message,
    drafts,
    make_channel_keys,
    sign_statement,
)
from broker.log.protocol import Log, Message
from broker.log.url import Opening, open_log
from broker.participant.follower import DIRECTORY, DirectoryFollower
from broker.participant.keyring import Keyring
from broker.participant.participant import Participant
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.wire.encoding import Statement
from broker.wire.statements import KeyUse, ServiceRole
from broker.wire.terms import LED_PURPOSES, WELFARE_PURPOSES

__all__ = ["AUDITOR", "CHANNELS", "KAS", "PLAIN", "READER", "WRITER", "Coalition", "channel_of", "key_access"]

WRITER, READER, AUDITOR, KAS = "XAA:police", "XBB:police", "auditor", "kas"
CHANNELS = ("east", "west")
"""Channels 0 and 1, for measuring two processes."""
PLAIN = "plain"
"""A topic for the baselines: records as plain Avro, on the same log."""

_PASSPHRASE = b"throwaway"
_AUTHORITY = "authority"


@cache
def _signing(name: str) -> SigningKey:
    return SigningKey.of(Ed25519PrivateKey.from_private_bytes(sha256(f"signing {name}".encode()).digest()))


@cache
def _receiving(name: str) -> ReceivingKey:
    private = shake_256(f"receiving {name}".encode()).digest(96)
    return ReceivingKey.of(
        MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    )


def channel_of(directory: Directory, number: int = 0) -> Channel:
    """The channel of this number."""
    return directory.channels[CHANNELS[number]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coalition:
    """A log with a coalition's directory, and a folder for files; whoever takes part opens it from here."""

    folder: Path
    genesis: bytes
    url: str

    @classmethod
    async def found(
        cls,
        folder: Path,
        url: str | None = None,
        *,
        channels: Sequence[str] = CHANNELS,
        topics: Sequence[str] = (*default_store().topics, "access", PLAIN),
    ) -> Coalition:
        """A new log, in the folder or at ``url``, with topics and the statements that make the coalition."""
        folder.mkdir(parents=True, exist_ok=True)
        url = url or f"sqlite:{quote(str(folder / 'log.db'))}"
        async with open_log(url) as log:
            for topic in topics:
                await log.ensure(topic, len(channels))
            await log.ensure("keys", 1, compacted=True)
            await log.ensure(DIRECTORY.topic, 1)
            founding = _Founding(log)
            await founding.run(channels)
            return cls(folder=folder, genesis=founding.history.latest.genesis, url=url)

    @property
    def path(self) -> Path:
        """The file of a log in the folder."""
        return self.folder / "log.db"

    def open(self) -> Opening[Log]:
        """The log alone."""
        return open_log(self.url)

    @asynccontextmanager
    async def log(self) -> AsyncIterator[tuple[Log, DirectoryFollower]]:
        """The log, and a directory read to its end."""
        async with self.open() as log:
            yield log, await DirectoryFollower.start(log, self.genesis)

    def keyring(self, name: str) -> Keyring:
        """The keys of a participant."""
        return Keyring.of(name, _signing(name), [_receiving(name)])

    @asynccontextmanager
    async def participant(self, name: str) -> AsyncIterator[Participant]:
        """A participant with its own connection to the log and a directory read to its end."""
        async with self.log() as (log, follower):
            yield Participant(log=log, follower=follower, keyring=self.keyring(name))


@asynccontextmanager
async def key_access(coalition: Coalition) -> AsyncIterator[KeyAccessService]:
    """A running key access service; its files lie beside the log."""
    keyring = coalition.keyring(KAS)
    store = KeyStore(coalition.folder / "kas", coalition.genesis, keyring.receiving, _PASSPHRASE)
    for day in _days():
        store.add_intake_key(day, _receiving(f"intake {day}"))
    async with coalition.participant(KAS) as participant:
        with Journal(coalition.folder / "journal.db") as journal:
            async with KeyAccessService(participant, store, journal) as service:
                yield service


def _days() -> Sequence[int]:
    today = day_of(system_clock())
    return range(today, today + 2)  # a run may last past midnight


class _Founding:
    """A directory as it grows on a log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._messages = log.read(DIRECTORY, 0, follow=True)
        self.history = History()

    async def run(self, channels: Sequence[str]) -> None:
        """Append every statement, each valid."""
        authority = [_signing(f"{_AUTHORITY} {i}") for i in range(3)]
        genesis = drafts.found_coalition(
            coalition="Benchmark",
            authority_keys=[key.public for key in authority],
            threshold=2,
            issued_at=system_clock(),
        )
        await self._add(genesis, *authority)
        signers = authority[:2]
        for name in (WRITER, READER):
            agency = drafts.admit_agency(
                self._now,
                agency=name,
                title=name,
                signing_key=_signing(name).public,
                receiving_key=_receiving(name).public,
                issued_at=system_clock(),
            )
            await self._add(agency, *signers, _signing(name))
        for use, public in (
            (KeyUse.SIGNING, _signing(KAS).public),
            (KeyUse.RECEIVING, _receiving(KAS).public),
        ):
            service = drafts.announce_service_key(
                self._now,
                service=KAS,
                role=ServiceRole.KAS,
                use=use,
                public_key=public,
                issued_at=system_clock(),
            )
            await self._add(service, *signers, _signing(KAS))
        auditor = drafts.appoint_auditor(
            self._now,
            auditor=AUDITOR,
            title=AUDITOR,
            signing_key=_signing(AUDITOR).public,
            receiving_key=_receiving(AUDITOR).public,
            channels=(),
            issued_at=system_clock(),
        )
        await self._add(auditor, *signers, _signing(AUDITOR))
        for day in _days():
            intake = drafts.announce_intake_key(
                self._now,
                service=KAS,
                public_key=_receiving(f"intake {day}").public,
                day=day,
                issued_at=system_clock(),
            )
            await self._add(intake, _signing(KAS))
        for number, name in enumerate(channels):
            await self._open_channel(name, number, signers)

    async def _open_channel(self, name: str, number: int, signers: Sequence[SigningKey]) -> None:
        channel = drafts.open_channel(
            self._now,
            channel=name,
            number=number,
            members=(WRITER, READER),
            auditors=(AUDITOR,),
            record_types=default_store().record_types,
            purposes=sorted(LED_PURPOSES | WELFARE_PURPOSES),
            legal_basis="Exercise treaty, article 7",
            ceiling_days=3650,
            issued_at=system_clock(),
        )
        await self._add(channel, *signers)
        await self._add(make_channel_keys(self._now, name, WRITER, system_clock()), _signing(WRITER))
        await self._add(confirm_channel_keys(self._now, name, KAS, system_clock()), _signing(KAS))

    @property
    def _now(self) -> Directory:
        return self.history.latest

    async def _add(self, statement: Statement, *keys: SigningKey) -> None:
        # One by one: each names the head of the directory before it, which holds the log's time.
        signed = sign_statement(statement, keys, self._now.genesis)
        await self._log.append(DIRECTORY, [Message(*directory_message(signed))])
        if (error := self.history.extend(await anext(self._messages))) is not None:
            raise error
