"""The key access service inside this process, opened as a session with the service's own profile and keys.

This is for exercises and for deployments on one host: ``kas = "local:<path of the service's profile>"``.
Several processes may run the service side by side; they share its key store and its journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from broker.access.client import KeyAccess
from broker.clock import HOUR_US, day_of, system_clock
from broker.directory import (
    Channel,
    check_half,
    complaint,
    confirm_channel_keys,
    drafts,
    has_right_epoch,
    may_tell_time,
    sign_statement,
    waits_for_clock,
)
from broker.directory.clocks import ClockMark
from broker.errors import NotEntitled, OpenError, PeerError, UsageError
from broker.files import make_folder
from broker.logger import get_logger
from broker.services.kas.custody import INTAKE_DAYS_KEPT
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore
from broker.services.kas.service import KeyAccessService
from broker.session.passphrase import Ask, passphrase_of
from broker.session.profile import Profile, Role
from broker.session.session import Session, open_session
from broker.session.submission import append
from broker.wire.encoding import Statement
from broker.wire.manifest import Signed
from broker.wire.statements import KeyUse

__all__ = [
    "INTAKE_DAYS_AHEAD",
    "announce_here",
    "announce_intake",
    "confirm_epochs",
    "keep_clock",
    "missing_intake",
    "open_journal",
    "open_key_access",
    "open_service",
    "service_keys",
    "unannounced_intake",
]

INTAKE_DAYS_AHEAD = 14
"""Days for which intake keys are announced, today included."""

_CLOCKS_LOOKED_AT = 16
"""How many of the newest clocks of the directory are looked at before another one is appended."""

# A statement that does not count must not keep the others back: without intake keys, epochs or the time a
# whole coalition stands still. Failures of the log are raised, because then all of them would fail.
_FAILURES = (PeerError, UsageError)

_log = get_logger("broker.access")


@asynccontextmanager
async def open_key_access(session: Session) -> AsyncIterator[KeyAccess]:
    """Open the key access service that the profile of this session names.

    Raises UsageError when the profile names none.
    """
    profile = session.profile
    if profile.kas is None:
        raise UsageError(
            f"profile '{profile.path}' names no key access service",
            hint='add to it: kas = "local:<path of the service\'s profile>"',
        )
    async with open_service(Profile.load(profile.kas), ask=session.ask) as (_, service):
        yield service


async def announce_here(session: Session) -> None:
    """Open the service that the profile names, and let it announce intake keys and confirm channel keys.

    A publisher needs both. If anything waits for time to pass, the service tells the directory the time as
    well. Without a service in the profile, nothing happens.
    """
    if session.profile.kas is None:
        return
    async with open_session(Profile.load(session.profile.kas), ask=session.ask) as service:
        await announce_intake(service)
        await confirm_epochs(service)
        await keep_clock(service)
    await session.follower.refresh()


def open_journal(profile: Profile) -> Journal:
    """Open the journal of the service with this profile; its folder is made if it is missing."""
    make_folder(profile.state)
    return Journal(profile.state / "journal.db")


@asynccontextmanager
async def open_service(
    profile: Profile, *, ask: Ask | None = None
) -> AsyncIterator[tuple[Session, KeyAccessService]]:
    """Run the service with this profile while the block runs.

    First it announces the intake keys and confirms the channel keys that are missing, and tells the time if
    anything waits for that. Raises UsageError when the profile is not that of a key access service.
    """
    if profile.role is not Role.KAS:
        raise UsageError(f"'{profile.path}' is the profile of a {profile.role}, not of a key access service")
    async with open_session(profile, ask=ask) as session:
        await announce_intake(session)
        await confirm_epochs(session)
        await keep_clock(session)
        with open_journal(profile) as journal:
            service = KeyAccessService(session.participant, service_keys(session), journal)
            async with service:
                yield session, service


def service_keys(session: Session) -> KeyStore:
    """Open the key store of the service, which is the folder ``service`` beside its other keys."""
    profile = session.profile
    passphrase = passphrase_of(profile, session.ask)
    return KeyStore(profile.keys / "service", profile.genesis, session.keyring.receiving, passphrase)


async def announce_intake(session: Session) -> list[int]:
    """Announce the intake keys that are missing for the next days, and return the days that got one.

    A day that fails is logged, and the next call tries it again. Raises NotEntitled when the directory does
    not know the service.
    """
    if session.profile.name not in session.directory.parties:
        raise NotEntitled(
            f"nobody in the directory is called '{session.profile.name}'",
            hint="the authority adds the service first: ftf-broker kas add",
        )
    keys = service_keys(session)
    announced: list[int] = []
    for day in unannounced_intake(session):
        try:
            await _announce_day(session, keys, day)
            announced.append(day)
        except _FAILURES as error:
            _log.error("intake key not announced", day=day, reason=error.message)
    return announced


def unannounced_intake(session: Session) -> list[int]:
    """Return the days, of today and the next ones, for which the service must announce an intake key."""
    name = session.profile.name
    party = session.directory.parties.get(name)
    # A service that is still pending can announce nothing, and yet it may have to tell the time.
    if party is None or not party.active(KeyUse.SIGNING):
        return []
    today = day_of(system_clock())
    days = range(today, today + INTAKE_DAYS_AHEAD)
    return [day for day in days if (name, day) not in session.directory.intake_days]


async def _announce_day(session: Session, keys: KeyStore, day: int) -> None:
    # The days of intake keys count by the newest clock, which may be of last month.
    await _renew_clock(session)
    statement = keys.announcement(session.directory, session.profile.name, day, system_clock())
    await append(session, _signed(session, [statement]))


async def _renew_clock(session: Session) -> None:
    """Append a directory-clock if there was one, and the newest is not of about now."""
    directory = session.directory
    newest = directory.clocks.newest
    if newest is None or _is_recent(newest) or not may_tell_time(directory, session.profile.name):
        return
    await _tell_time(session)


async def keep_clock(session: Session) -> bool:
    """Append a directory-clock if anything waits for one, at most hourly; tell whether that was done."""
    directory = session.directory
    if not (waits_for_clock(directory) and may_tell_time(directory, session.profile.name)):
        return False
    # More than the newest one is looked at. Two hosts whose clocks differ by hours would otherwise put each
    # other's newest clock right for ever.
    if any(_is_recent(mark) for mark in directory.clocks.last(_CLOCKS_LOOKED_AT)):
        return False
    await _tell_time(session)
    return True


async def _tell_time(session: Session) -> None:
    told = drafts.tell_time(session.directory, service=session.profile.name, issued_at=system_clock())
    try:
        await append(session, _signed(session, [told]))
    except _FAILURES as error:
        _log.error("the time was not told", reason=error.message)


def _is_recent(mark: ClockMark) -> bool:
    # A clock that a host with a wrong clock has dated ahead is no reason to wait for that day.
    return abs(system_clock() - mark.issued_at) < HOUR_US


def missing_intake(session: Session) -> list[int]:
    """Return the days whose intake key is announced and missing in the key store, or is another one there.

    Batches under these keys may still come, and could not be taken over.
    """
    keys = service_keys(session)
    today = day_of(system_clock())
    announced = {
        day: key_id
        for (service, day), key_id in session.directory.intake_days.items()
        if service == session.profile.name and day + INTAKE_DAYS_KEPT >= today
    }
    return sorted(
        day
        for day, key_id in announced.items()
        if not keys.is_intake_destroyed(day) and keys.intake_key(day, key_id) is None
    )


async def confirm_epochs(session: Session) -> list[tuple[str, int]]:
    """Confirm each channel's newest keys, and complain about keys that do not open for us.

    A channel that fails is logged, and the next call tries it again.
    Returns the name of the channel and the number of the epoch for each confirmation.
    """
    name = session.profile.name
    confirmed: list[tuple[str, int]] = []
    if name == session.directory.kas_name and not may_tell_time(session.directory, name):
        return confirmed
    for channel in sorted(session.directory.channels.values(), key=lambda channel: channel.number):
        try:
            if await _confirm(session, channel):
                confirmed.append((channel.name, channel.newest_published))
        except _FAILURES as error:
            _log.error("channel keys not confirmed", channel=channel.name, reason=error.message)
    return confirmed


async def _confirm(session: Session, channel: Channel) -> bool:
    """Confirm a channel's newest keys if they wait for it, or complain of them; tell whether they count."""
    name = session.profile.name
    directory = session.directory
    epoch = channel.epochs.get(channel.newest_published)
    if not channel.is_open or epoch is None or epoch.confirmed_at is not None:
        return False
    if epoch.complained and has_right_epoch(directory, channel):
        return False
    try:
        check_half(directory, channel.name, epoch.number, "metadata", name, session.keyring.receiving)
    except OpenError as error:
        if not epoch.complained:
            await _complain(session, channel.name, epoch.number, error.message)
        return False
    confirms = confirm_channel_keys(directory, channel.name, name, system_clock())
    await append(session, _signed(session, [confirms]))
    return True


async def _complain(session: Session, channel: str, epoch: int, why: str) -> None:
    name = session.profile.name
    detail = f"the metadata half: {why}"
    complains = complaint(session.directory, channel, epoch, name, detail=detail, issued_at=system_clock())
    await append(session, _signed(session, [complains]))


def _signed(session: Session, statements: Iterable[Statement]) -> list[Signed]:
    signing = session.keyring.signing
    genesis = session.directory.genesis
    return [sign_statement(statement, [signing], genesis) for statement in statements]
