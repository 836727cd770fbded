"""The fold: one more message or statement applied to a directory.

``fold`` takes any message of the log and never raises. The log is what it is: a message that is no
valid statement still counts in the running hash. ``apply`` takes a signed statement and raises when it
is not valid. Both do the same three steps in the same order:

    (1) time passes: a key that was pending long enough by this append time takes effect
    (2) the statement is judged by the state that (1) left, and changes it if it counts
    (3) the size grows by one, and the running hash takes the message in:
        head(n + 1) = H(head(n) | u64(appended_at) | H(value of message n))

The result depends on the messages and their append times alone, never on this machine's clock. That is
why everybody who reads the same log gets the same directory.
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
"""Largest value of a directory message; a larger one is not decoded."""


class DirectoryMessage(Protocol):
    """A message of ftf.directory as a log returns it; its append time is in microseconds."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def appended_at(self) -> int: ...


def fold(directory: Directory, message: DirectoryMessage) -> tuple[Directory, PeerError | None]:
    """Return the directory after this message, and the reason why its statement does not count, if any."""
    value = message.value or b""
    before = _pass_time(directory, message.appended_at)
    try:
        after = _judge(before, _decode(message.key, value))
    except PeerError as error:
        # A message that does not count still enters the running hash. Otherwise the operator of the log
        # could insert or remove such messages, and the heads that participants have seen would still fit.
        return _take_in(before, value, message.appended_at), error
    return _take_in(after, value, message.appended_at), None


def apply(directory: Directory, signed: Signed, *, appended_at: int) -> Directory:
    """Return the directory after this statement; raises PeerError when the statement does not count."""
    after = _judge(_pass_time(directory, appended_at), signed)
    return _take_in(after, encode(signed), appended_at)


def next_head(head: bytes, appended_at: int, value: bytes) -> bytes:
    """Return the running hash after one more message."""
    # The append time is hashed too: the 72 hours of a pending key depend on it, so that an operator who
    # changes it afterwards changes every head from there on.
    # The remainder is there for logs that give a negative time or a too large one: this function must not
    # raise.
    return sha256(head + (appended_at % 2**64).to_bytes(8, "big") + sha256(value).digest()).digest()


def _decode(key: bytes | None, value: bytes) -> Signed:
    if key != b"":
        shown = "null" if key is None else f"'{key[:40].hex()}'"
        raise FormatError(f"the key of the message is {shown}, expected an empty key")
    # The size is checked before the decoder spends memory on the value.
    if len(value) > MAX_STATEMENT_BYTES:
        raise FormatError(f"the statement has {len(value)} bytes, expected at most {MAX_STATEMENT_BYTES}")
    return decode(Signed, value)


def _pass_time(directory: Directory, appended_at: int) -> Directory:
    # An operator who puts the log's clock back must not date an announcement back and so shorten the
    # 72 hours: the directory's clock only rises.
    now = max(directory.clock, appended_at)
    return replace(keys.activate_due(directory, now), clock=now)


def _take_in(directory: Directory, value: bytes, appended_at: int) -> Directory:
    size = directory.size + 1
    head = next_head(directory.head, appended_at, value)
    return replace(directory, size=size, head=head, heads=directory.heads.set(size, head))


def _judge(before: Directory, signed: Signed) -> Directory:
    """Return the state after a valid statement; size and running hash are still those before it."""
    if signed.kind not in STATEMENT_KINDS:
        raise FormatError(f"'{signed.kind[:40]}' is not a kind of directory statement")
    if before.size == 0 and signed.kind != "genesis":
        raise NotEntitled(f"the first message of the directory must be a genesis, not '{signed.kind}'")
    # A genesis counts at size 0 only. So a directory whose first message was anything else never gets an
    # authority, and nothing in it ever counts.
    if before.size > 0 and not before.authority.keys:
        raise NotEntitled("this directory did not begin with a genesis")
    statement: Statement = decode_content(signed)
    digest = sha256(signed.content).digest()
    check_header(before, statement.header, digest)
    case = Case(before=before, signed=signed, digest=digest, now=before.clock)
    after = _apply_rule(case, statement)
    if statement.header.issuer == AUTHORITY:
        after = replace(after, authority=replace(after.authority, last=digest))
    return replace(after, applied=after.applied.set(digest, before.size))


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
