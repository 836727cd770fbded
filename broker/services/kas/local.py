"""The key access service inside this process, with the service's own profile and keys.

For exercises, and for deployments on one host: ``kas = "local:<path of the service's profile>"``. Several
processes may run it side by side; they share its key store and its journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from broker.access.client import KeyAccess
from broker.clock import day_of, system_clock
from broker.directory import complaint, confirm_channel_keys, sign_statement
from broker.errors import UsageError
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.services.kas.takeover import INTAKE_DAYS_ACCEPTED
from broker.session.passphrase import Ask, passphrase_of
from broker.session.profile import Profile, Role
from broker.session.session import Session, open_session
from broker.session.submission import append
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed

__all__ = [
    "announce_here",
    "announce_intake",
    "confirm_epochs",
    "missing_intake",
    "open_journal",
    "open_key_access",
    "open_service",
    "service_keys",
]


@asynccontextmanager
async def open_key_access(session: Session) -> AsyncIterator[KeyAccess]:
    """The key access service that this participant's profile names."""
    profile = session.profile
    if profile.kas is None:
        raise UsageError(
            f"profile '{profile.path}' names no key access service",
            hint='add to it: kas = "local:<path of the service\'s profile>"',
        )
    async with open_service(Profile.load(profile.kas), ask=session.ask) as (_, service):
        yield service


async def announce_here(session: Session) -> None:
    """Have the service in this process announce what publishers need, and confirm what members published."""
    if session.profile.kas is None:
        return
    async with open_session(Profile.load(session.profile.kas), ask=session.ask) as service:
        await announce_intake(service)
        await confirm_epochs(service)
    await session.follower.refresh()


def open_journal(profile: Profile) -> Journal:
    """The journal of the service of this profile, which remembers what must be in the access log."""
    profile.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Journal(profile.state / "journal.db")


@asynccontextmanager
async def open_service(
    profile: Profile, *, ask: Ask | None = None
) -> AsyncIterator[tuple[Session, KeyAccessService]]:
    """The running service of this profile; what keys were missing is announced and confirmed first."""
    if profile.role is not Role.KAS:
        raise UsageError(f"'{profile.path}' is no profile of a key access service but of a {profile.role}")
    async with open_session(profile, ask=ask) as session:
        await announce_intake(session)
        await confirm_epochs(session)
        with open_journal(profile) as journal:
            service = KeyAccessService(session.participant, service_keys(session), journal)
            async with service:
                yield session, service


def service_keys(session: Session) -> KeyStore:
    """The keys that the service keeps for itself, in its key store's folder ``service``."""
    profile = session.profile
    passphrase = passphrase_of(profile, session.ask)
    return KeyStore(profile.keys / "service", profile.genesis, session.keyring.receiving, passphrase)


async def announce_intake(session: Session) -> list[int]:
    """Announce the intake keys that are missing for the next days; returns the days."""
    keys, days = service_keys(session), list[int]()
    while statements := keys.announce(session.directory, session.profile.name, system_clock()):
        # One by one, each with a view that covers the one before: so their order is proved too.
        await append(session, _signed(session, statements[:1]))
        days += [one.day for one in statements[:1] if one.day is not None]
    return days


def missing_intake(session: Session) -> list[int]:
    """The days of which batches may still come under an intake key that is announced and not in our store."""
    keys, today = service_keys(session), day_of(system_clock())
    announced = {
        day: key_id
        for (service, day), key_id in session.directory.intake_days.items()
        if service == session.profile.name and day + INTAKE_DAYS_ACCEPTED >= today
    }
    found = {day: keys.intake_key(day) for day in announced}
    return sorted(day for day, key in found.items() if key is None or key.key_id != announced[day])


async def confirm_epochs(session: Session) -> list[tuple[str, int]]:
    """Confirm each channel's newest keys, or complain where ours do not open; returns what was confirmed."""
    confirmed = []
    for channel in sorted(session.directory.channels.values(), key=lambda one: one.number):
        epoch = channel.epochs.get(channel.newest_published)
        if not channel.is_open or epoch is None or epoch.complained or epoch.confirmed_at is not None:
            continue
        directory, name = session.directory, session.profile.name
        if session.keyring.epoch_key(directory, channel.name, epoch.number, "metadata") is None:
            detail = "the metadata seed does not give the public key"
            complains = complaint(
                directory, channel.name, epoch.number, name, detail=detail, issued_at=system_clock()
            )
            await append(session, _signed(session, [complains]))
            continue
        confirms = confirm_channel_keys(directory, channel.name, name, system_clock())
        await append(session, _signed(session, [confirms]))
        confirmed.append((channel.name, epoch.number))
    return confirmed


def _signed(session: Session, statements: Iterable[Statement]) -> list[Signed]:
    signing, genesis = session.keyring.signing, session.directory.genesis
    return [sign_statement(one, [signing], genesis) for one in statements]
