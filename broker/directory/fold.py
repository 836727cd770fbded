"""The fold: one more message or statement applied to a directory.

``fold`` takes any message of the log and never raises: a message that is no valid statement changes
nothing. ``apply`` takes a signed statement and raises when it is not valid. Both judge the statement by the
state before it, and a statement that counts makes the next state, whose size is the one behind the message.

The root of the partition's tree at that size comes from ``history``, which sees every message. The append
time of a message matters for a ``directory-clock`` alone (``directory.clocks``). The result depends on the
messages and these append times, never on this machine's clock. That is why everybody who reads the same log
gets the same directory.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Protocol, assert_never

from broker.directory.case import Case, check_header
from broker.directory.directory import Directory
from broker.directory.party import AUTHORITY
from broker.directory.rules import agencies, channel_keys, channels, keys, waits
from broker.errors import FormatError, NotEntitled, PeerError
from broker.wire import statements as s
from broker.wire.encoding import RESERVED_KINDS, STATEMENT_KINDS, Statement, decode, decode_content
from broker.wire.manifest import Signed

__all__ = ["MAX_STATEMENT_BYTES", "DirectoryMessage", "apply", "fold"]

MAX_STATEMENT_BYTES = 1_000_000
"""Largest value of a directory message; a larger one is not decoded."""


class DirectoryMessage(Protocol):
    """A message of ftf.directory as a log returns it; its append time is in microseconds."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def appended_at(self) -> int: ...


def fold(
    directory: Directory, message: DirectoryMessage, *, place: int
) -> tuple[Directory, PeerError | None]:
    """Return the directory after the message at this offset, and why its statement does not count, if so.

    A message that does not count leaves the same directory. The new one still needs its root.
    """
    try:
        signed = _decode(message.key, message.value or b"")
        return _judge(directory, signed, place=place, appended_at=message.appended_at), None
    except PeerError as error:
        return directory, error


def apply(directory: Directory, signed: Signed, *, appended_at: int) -> Directory:
    """Return what this statement would make of the directory, as the next message behind its view.

    Its root stays the one before, because only the log tells the next one. Raises PeerError when the
    statement does not count.
    """
    return _judge(directory, signed, place=directory.size, appended_at=appended_at)


def _decode(key: bytes | None, value: bytes) -> Signed:
    if key != b"":
        shown = "null" if key is None else f"'{key[:40].hex()}'"
        raise FormatError(f"the key of the message is {shown}, expected an empty key")
    # The size is checked before the decoder spends memory on the value.
    if len(value) > MAX_STATEMENT_BYTES:
        raise FormatError(f"the statement has {len(value)} bytes, expected at most {MAX_STATEMENT_BYTES}")
    return decode(Signed, value)


def _judge(before: Directory, signed: Signed, *, place: int, appended_at: int) -> Directory:
    """Return the state after a valid statement that stands at this offset."""
    if signed.kind not in STATEMENT_KINDS and signed.kind not in RESERVED_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is not a kind of directory statement")
    if place == 0 and signed.kind != "genesis":
        raise NotEntitled(f"the first message of the directory must be a genesis, not '{signed.kind}'")
    # A genesis counts at size 0 only. So a directory whose first message was anything else never gets an
    # authority, and nothing in it ever counts.
    if place > 0 and not before.authority.keys:
        raise NotEntitled("this directory did not begin with a genesis")
    statement: Statement = decode_content(signed)
    digest = sha256(signed.content).digest()
    check_header(before, statement.header, digest)
    case = Case(before=before, signed=signed, digest=digest, appended_at=appended_at)
    after = _apply_rule(case, statement)
    if statement.header.issuer == AUTHORITY:
        after = replace(after, authority=replace(after.authority, last=digest))
    return replace(after, size=place + 1, applied=after.applied.set(digest, place))


def _apply_rule(case: Case, statement: Statement) -> Directory:
    # A match instead of a table: with assert_never, mypy refuses a kind of statement that has no rule.
    match statement:
        case s.Genesis():
            return agencies.genesis(case, statement)
        case s.AuthorityRotated():
            return agencies.authority_rotated(case, statement)
        case s.AgencyAdmitted():
            return agencies.agency_admitted(case, statement)
        case s.AgencySuspended():
            return agencies.agency_suspended(case, statement)
        case s.AgencyReinstated():
            return agencies.agency_reinstated(case, statement)
        case s.AuditorAppointed():
            return agencies.auditor_appointed(case, statement)
        case s.AuditorDismissed():
            return agencies.auditor_dismissed(case, statement)
        case s.KeyAdded():
            return keys.key_added(case, statement)
        case s.KeyRetired():
            return keys.key_retired(case, statement)
        case s.KeyRevoked():
            return keys.key_revoked(case, statement)
        case s.ServiceKeyAnnounced():
            return keys.service_key_announced(case, statement)
        case s.DirectoryClock():
            return waits.directory_clock(case, statement)
        case s.ChannelOpened():
            return channels.channel_opened(case, statement)
        case s.ChannelClosed():
            return channels.channel_closed(case, statement)
        case s.MemberJoined():
            return channels.member_joined(case, statement)
        case s.MemberLeft():
            return channels.member_left(case, statement)
        case s.ChannelKeysPublished():
            return channel_keys.channel_keys_published(case, statement)
        case s.ChannelKeysConfirmed():
            return channel_keys.channel_keys_confirmed(case, statement)
        case s.ChannelKeysComplained():
            return channel_keys.channel_keys_complained(case, statement)
        case s.EpochGranted():
            return channel_keys.epoch_granted(case, statement)
    assert_never(statement)
