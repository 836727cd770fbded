"""Messages and statements applied to a directory: every rule is reached from here.

``fold`` takes any message whatever and never raises: the log is what it is, and every message counts
in the running hash. ``apply`` takes a statement and raises where it is not valid. In both, time
passes first: what was pending long enough by append time has taken effect before the statement is
judged, so that the outcome depends on the messages alone.

    head(n + 1) = H(head(n) | u64(appended_at) | H(value of message n))
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Protocol, assert_never

from broker.directory.case import Case, check_header
from broker.directory.directory import Directory
from broker.directory.party import AUTHORITY
from broker.directory.rules import agencies, channel_keys, channels, keys
from broker.errors import FormatError, NotEntitled, PeerError
from broker.wire import statements as s
from broker.wire.encoding import STATEMENT_KINDS, Statement, decode, decode_content, encode
from broker.wire.manifest import Signed

__all__ = ["MAX_STATEMENT_BYTES", "DirectoryMessage", "apply", "fold", "next_head"]

MAX_STATEMENT_BYTES = 1_000_000


class DirectoryMessage(Protocol):
    """A message of ftf.directory as a log gives it; append times in microseconds."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def appended_at(self) -> int: ...


def fold(directory: Directory, message: DirectoryMessage) -> tuple[Directory, PeerError | None]:
    """The directory after this message, and why its statement did not count, if it did not."""
    value, appended_at = message.value or b"", message.appended_at
    before = _at(directory, appended_at)
    try:
        if message.key != b"":
            raise FormatError("a message of the directory has an empty key")
        if len(value) > MAX_STATEMENT_BYTES:
            raise FormatError(f"statement of {len(value)} bytes, expected at most {MAX_STATEMENT_BYTES}")
        after = _judge(before, decode(Signed, value))
    except PeerError as error:
        return _advance(before, value, appended_at), error
    return _advance(after, value, appended_at), None


def apply(directory: Directory, signed: Signed, *, appended_at: int) -> Directory:
    """The directory after this statement; PeerError where it is not valid."""
    after = _judge(_at(directory, appended_at), signed)
    return _advance(after, encode(signed), appended_at)


def next_head(head: bytes, appended_at: int, value: bytes) -> bytes:
    """The running hash after one more message."""
    return sha256(head + (appended_at % 2**64).to_bytes(8, "big") + sha256(value).digest()).digest()


def _at(directory: Directory, appended_at: int) -> Directory:
    """The directory at this append time; a log's clock that goes back does not take time back."""
    now = max(directory.clock, appended_at)
    return replace(keys.mature(directory, now), clock=now)


def _advance(directory: Directory, value: bytes, appended_at: int) -> Directory:
    size, head = directory.size + 1, next_head(directory.head, appended_at, value)
    return replace(directory, size=size, head=head, heads=directory.heads.set(size, head))


def _judge(before: Directory, signed: Signed) -> Directory:
    """The state after a valid statement, size and head not yet advanced."""
    if signed.kind not in STATEMENT_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is no kind of directory statement")
    if before.size == 0 and signed.kind != "genesis":
        raise NotEntitled("the first message of the directory is the genesis")
    if before.size > 0 and not before.authority.keys:
        raise NotEntitled("this directory did not begin with a genesis")
    statement: Statement = decode_content(signed)
    digest = sha256(signed.content).digest()
    check_header(before, statement.header, digest)
    case = Case(before=before, signed=signed, digest=digest, now=before.clock)
    after = _by_rule(case, statement)
    if statement.header.issuer == AUTHORITY:
        after = replace(after, authority=replace(after.authority, last=digest))
    return replace(after, applied=after.applied.set(digest, before.size))


def _by_rule(case: Case, statement: Statement) -> Directory:
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
