"""Directory statements folded into a Directory: who takes part, with which keys, in which channels.

``History`` follows ftf.directory; ``history.at(size)`` answers who was entitled when. ``drafts`` and
``make`` put statements together, ``epochs`` opens the keys of a channel's epoch.
"""

from broker.directory.channel import Channel, Epoch, Use
from broker.directory.directory import Authority, Directory
from broker.directory.epochs import EpochKey, complaint, epoch_key_of, epoch_keys, open_seed
from broker.directory.fold import DirectoryMessage, apply, fold
from broker.directory.history import HighWater, History, check_high_water
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

__all__ = [
    "AUTHORITY",
    "Agency",
    "Authority",
    "Channel",
    "Directory",
    "DirectoryMessage",
    "Epoch",
    "EpochKey",
    "HighWater",
    "History",
    "IntakeKey",
    "Key",
    "KeyState",
    "Party",
    "PartyKind",
    "PendingKey",
    "Recipient",
    "Use",
    "apply",
    "authority_header",
    "check_high_water",
    "complaint",
    "confirm_channel_keys",
    "countersign",
    "directory_message",
    "epoch_key_of",
    "epoch_keys",
    "fold",
    "grant_epoch",
    "header_for",
    "make_channel_keys",
    "open_seed",
    "sign_statement",
]
