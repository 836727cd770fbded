"""Entries of the access log that concern an agency: the readings of its records, and its own readings.

A member holds no key of the access log, so the key access service chooses the entries for it. An auditor
finds out whether the service left one out. Each entry that it answers is proved:

    (1) the entry lies in the range that was asked for, behind the entry before it
    (2) the service signed the entry's manifest with a key of its own, and the entry is in that manifest
    (3) the log holds the entry: its body, which it names by digest, stands at its place, or in a LATE entry
        that stands there
    (4) the agency that the request names signed the request
    (5) the details are those that the request committed to
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from broker.access.log_evidence import (
    MAX_ENTRIES_BYTES,
    LoggedAccess,
    check_log_entry,
    entries_size,
    open_log_entry,
)
from broker.access.request_checks import MAX_LOG_RANGE, check_signed
from broker.audit.disclosures import Access, LogAsker, access_of, checked_details
from broker.clock import DAY_US
from broker.directory import Channel
from broker.errors import FormatError, OpenError
from broker.log.protocol import Partition
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire.access import AccessRequest, LogEntry
from broker.wire.batch import body_message_key
from broker.wire.encoding import decode
from broker.wire.limits import MAX_RECORDS
from broker.wire.manifest import AccessTerms, LogItem

__all__ = ["AgencyEntries"]

_SLACK_US = 2 * DAY_US
"""The largest difference between the clocks of a service's hosts that is allowed for, in microseconds."""

_Stored = dict[int, tuple[bytes, bytes]]
"""For each offset the key of the message and the digest of its value."""


class _Proved(NamedTuple):
    """An entry that was proved: its manifest and index, when what stands there was signed, the access."""

    name: bytes
    at: int
    access: Access | None


@dataclass(frozen=True, slots=True)
class AgencyEntries:
    """Reads the entries that concern a member, range by range."""

    asker: LogAsker

    async def read(
        self, channel: Channel, since: int | None, is_wanted: Callable[[Access], bool]
    ) -> AsyncIterator[Access]:
        """Yield the accesses of a channel that concern us and are wanted.

        A member cannot know where they stand, so it asks for all of the log, or from its end backwards until
        an entry was signed well before ``since``, in microseconds. Only what the service signed decides
        where to stop: whoever stores the log could date a message as it likes.
        """
        seen: set[bytes] = set()
        end = await self.asker.participant.end_of(Partition(ACCESS_TOPIC, channel.number))
        starts = range(0, end, MAX_LOG_RANGE)
        recent: list[list[_Proved]] = []
        for start in reversed(starts) if since is not None else ():
            recent.append(await self._proved(channel, start, min(end, start + MAX_LOG_RANGE)))
            if any(proved.at < (since or 0) - _SLACK_US for proved in recent[-1]):
                break
        for start in starts if since is None else ():
            for access in _once(await self._proved(channel, start, min(end, start + MAX_LOG_RANGE)), seen):
                if is_wanted(access):
                    yield access
        for window in reversed(recent):
            for access in _once(window, seen):
                if is_wanted(access):
                    yield access

    async def _proved(self, channel: Channel, start: int, end: int) -> list[_Proved]:
        """Ask for the entries of a range until all of it is answered, and prove each of them."""
        found: list[_Proved] = []
        while start < end:
            item = LogItem(start=start, end=end)
            entries = await self.asker.ask(channel, item)
            _check_order(entries, item)  # (1)
            stored = await self._stored(channel, item)
            found += [self._opened(channel, entry, stored) for entry in entries]
            # An answer is bounded. Where it reached its bound we ask again behind its last entry.
            is_whole = entries_size(entries) <= MAX_ENTRIES_BYTES
            start = item.end if is_whole or not entries else entries[-1].offset + 1
        return found

    async def _stored(self, channel: Channel, item: LogItem) -> _Stored:
        """Return the messages of a range, and of the batch that begins in it and ends behind it."""
        found: _Stored = {}
        place = Partition(ACCESS_TOPIC, channel.number)
        async for message in self.asker.participant.log.read(place, item.start):
            if message.offset >= item.end + MAX_RECORDS:
                break
            found[message.offset] = (message.key or b"", sha256(message.value or b"").digest())
        return found

    def _opened(self, channel: Channel, entry: LogEntry, stored: _Stored) -> _Proved:
        """Prove an entry, and return its access if it is one."""
        history = self.asker.participant.follower.history
        # Where the key of the entry's month is destroyed, the details are gone and only the manifest is
        # checked.
        is_erased = entry.body_key is None
        checked = check_log_entry if is_erased else open_log_entry
        logged = checked(entry, history, channel.number)  # (2)
        _check_stands(logged, entry, stored)  # (3)
        terms = logged.terms
        at = logged.manifest.header.issued_at
        signed_at = logged.stands.manifest.header.issued_at
        name = sha256(entry.manifest.content).digest() + bytes((entry.index,))
        if not isinstance(terms, AccessTerms):
            return _Proved(name, signed_at, None)
        if terms.request.kind != "access-request":
            raise FormatError(f"access@{entry.offset} holds no request")
        request = decode(AccessRequest, terms.request.content)
        # A service that invents an access cannot sign the request for its agency.
        header = logged.manifest.header
        check_signed(terms.request, request.issuer, history.at(header.directory_size))  # (4)
        details = None if is_erased else checked_details(logged.details, request, entry.offset)  # (5)
        access = access_of(channel, entry.offset, entry.index, at, terms, request, details)
        return _Proved(name, signed_at, access)


def _once(window: Iterable[_Proved], seen: set[bytes]) -> Iterator[Access]:
    """Yield the accesses that were not seen: somebody may append a copy of an entry to the log."""
    for name, _, access in window:
        if access is not None and name not in seen:
            yield access
        seen.add(name)


def _check_order(entries: tuple[LogEntry, ...], item: LogItem) -> None:
    places = [entry.offset for entry in entries]
    # A LATE entry holds several batches, which then have one place: so an entry goes by its manifest too.
    names = {(entry.offset, entry.index, entry.manifest.content) for entry in entries}
    is_outside = any(not item.start <= offset < item.end for offset in places)
    if places != sorted(places) or len(names) != len(entries) or is_outside:
        raise FormatError(
            f"the entries answered for access@{item.start} are not in order, or lie outside of the range"
        )


def _check_stands(logged: LoggedAccess, entry: LogEntry, stored: _Stored) -> None:
    stands = logged.stands
    manifest_id = stands.manifest.manifest_id
    key, _ = stored.get(entry.offset, (b"", b""))
    body = stored.get(entry.offset + 1 + stands.place)
    # The key of a message proves nothing, because anybody who may write can repeat it. The digest of the
    # stored body does.
    if key != manifest_id or body != (body_message_key(manifest_id, stands.place), stands.digest):
        raise OpenError(f"the entry answered for access@{entry.offset} does not stand in the log")
