"""The directory of a coalition: who takes part, with which keys, and in which channels.

A ``Directory`` is one immutable value. It is computed from the signed statements of ``ftf.directory``
and from nothing else, so every participant that reads the same messages gets the same value.

    directory, party, channel   the value and its parts, with look-ups and without rules
    clocks                      how long ago something was, by what the key access service signed
    case, changes, rules/       what a statement must fulfil to count, and what it changes
    fold                        ``fold`` takes a message of the log, ``apply`` a signed statement
    history                     ``history.at(size)`` answers who was entitled at an earlier time
    drafts, issuance            new statements: their content, then headers, halves and signatures
    epochs                      the keys of an epoch, as a recipient opens them
"""

from broker.directory.channel import Channel, Epoch, EpochSeed, Offer, Use
from broker.directory.directory import Authority, Directory
from broker.directory.epochs import (
    EpochKey,
    JunkHalf,
    OpenedSeed,
    check_half,
    complaint,
    epoch_keys,
    open_seed,
)
from broker.directory.fold import DirectoryMessage, apply, fold
from broker.directory.history import Change, HighWater, History, check_high_water
from broker.directory.issuance import (
    authority_header,
    confirm_channel_keys,
    countersign,
    directory_message,
    grant_epoch,
    header_for,
    make_channel_keys,
    sign_statement,
)
from broker.directory.party import (
    AUTHORITY,
    Agency,
    IntakeKey,
    Key,
    KeyState,
    Party,
    PartyKind,
    PendingKey,
    Recipient,
)
from broker.directory.rules.channel_keys import has_right_epoch
from broker.directory.rules.waits import may_tell_time, waits_for_clock

__all__ = [
    "AUTHORITY",
    "Agency",
    "Authority",
    "Change",
    "Channel",
    "Directory",
    "DirectoryMessage",
    "Epoch",
    "EpochKey",
    "EpochSeed",
    "HighWater",
    "History",
    "IntakeKey",
    "JunkHalf",
    "Key",
    "KeyState",
    "Offer",
    "OpenedSeed",
    "Party",
    "PartyKind",
    "PendingKey",
    "Recipient",
    "Use",
    "apply",
    "authority_header",
    "check_half",
    "check_high_water",
    "complaint",
    "confirm_channel_keys",
    "countersign",
    "directory_message",
    "epoch_keys",
    "fold",
    "grant_epoch",
    "has_right_epoch",
    "header_for",
    "make_channel_keys",
    "may_tell_time",
    "open_seed",
    "sign_statement",
    "waits_for_clock",
]
