"""Encoding: protocol values become bytes and bytes become values, strictly; statements have kinds.

``encode`` and ``decode`` use the Avro schemas in ``schemas/protocol``. Decoding consumes every byte and takes
only the encoding that ``encode`` makes; anything else raises FormatError. So one value has one digest.
"""

from __future__ import annotations

from typing import Any, TypeVar

from broker.avro.codec import Codec, compile_schema
from broker.avro.schema_file import protocol_schema
from broker.crypto.sign import SigningKey
from broker.errors import FormatError
from broker.wire import access, manifest, statements, terms
from broker.wire.access import AccessRequest, CollectionAnswer, CollectionQuery, Receipt
from broker.wire.manifest import KeySignature, RecordManifest, Signed

__all__ = [
    "KINDS",
    "RESERVED_KINDS",
    "STATEMENT_KINDS",
    "Statement",
    "decode",
    "decode_content",
    "encode",
    "kind_of",
    "sign_content",
]

NAMESPACE = "ftf.protocol"

Statement = (
    statements.Genesis
    | statements.AuthorityRotated
    | statements.AgencyAdmitted
    | statements.AgencySuspended
    | statements.AgencyReinstated
    | statements.KeyAdded
    | statements.KeyRetired
    | statements.KeyRevoked
    | statements.ChannelOpened
    | statements.ChannelClosed
    | statements.MemberJoined
    | statements.MemberLeft
    | statements.AuditorAppointed
    | statements.AuditorDismissed
    | statements.ServiceKeyAnnounced
    | statements.DirectoryClock
    | statements.ChannelKeysPublished
    | statements.ChannelKeysConfirmed
    | statements.ChannelKeysComplained
    | statements.EpochGranted
)
"""A statement of the directory."""

STATEMENT_KINDS: dict[str, type] = {
    "genesis": statements.Genesis,
    "authority-rotated": statements.AuthorityRotated,
    "agency-admitted": statements.AgencyAdmitted,
    "agency-suspended": statements.AgencySuspended,
    "agency-reinstated": statements.AgencyReinstated,
    "key-added": statements.KeyAdded,
    "key-retired": statements.KeyRetired,
    "key-revoked": statements.KeyRevoked,
    "channel-opened": statements.ChannelOpened,
    "channel-closed": statements.ChannelClosed,
    "member-joined": statements.MemberJoined,
    "member-left": statements.MemberLeft,
    "auditor-appointed": statements.AuditorAppointed,
    "auditor-dismissed": statements.AuditorDismissed,
    "service-key-announced": statements.ServiceKeyAnnounced,
    "directory-clock": statements.DirectoryClock,
    "channel-keys-published": statements.ChannelKeysPublished,
    "channel-keys-confirmed": statements.ChannelKeysConfirmed,
    "channel-keys-complained": statements.ChannelKeysComplained,
    "epoch-granted": statements.EpochGranted,
}
"""The kinds of the directory's statements, and the class of each content."""

KINDS: dict[str, type] = {
    **STATEMENT_KINDS,
    "manifest": RecordManifest,
    "access-request": AccessRequest,
    "receipt": Receipt,
    "collection-query": CollectionQuery,
    "collection-answer": CollectionAnswer,
}
"""Every kind that is ever signed. The list is closed: another kind is refused before it is decoded."""

RESERVED_KINDS = frozenset(("sealed-statement", "permission", "acknowledged"))
"""Kinds that a later version fills: sealed statements of the directory, the permission of an originator, and
the acknowledgement of a recipient. This version refuses them by name."""

_KIND_OF = {cls: kind for kind, cls in KINDS.items()}

# Every codec knows the classes of all value modules, and ignores those that its schema does not name. A new
# class needs no entry here: its module's __all__ is enough.
_CLASSES: dict[str, type] = {
    f"{NAMESPACE}.{name}": getattr(module, name)
    for module in (terms, manifest, access, statements)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}

T = TypeVar("T")

# Codecs are compiled when they are first needed: a process uses few of the kinds.
_codecs: dict[type, Codec] = {}


def _codec(cls: type) -> Codec:
    codec = _codecs.get(cls)
    if codec is None:
        codec = _codecs[cls] = compile_schema(protocol_schema(cls.__name__), classes=_CLASSES)
    return codec


def encode(value: Any) -> bytes:
    """Encode a protocol value. Raises UsageError where a field cannot hold its value."""
    return _codec(type(value)).encode(value)


def decode(cls: type[T], data: bytes) -> T:
    """Decode all of these bytes as a value of class ``cls``. Raises FormatError where they are not one."""
    value: T = _codec(cls).decode(data)
    return value


def kind_of(value: object) -> str:
    """Return the kind under which a value of this class is signed."""
    return _KIND_OF[type(value)]


def sign_content(key: SigningKey, kind: str, genesis: bytes, content: bytes) -> Signed:
    """Sign content with one key, as a statement of this kind in this coalition."""
    return Signed(
        kind=kind,
        content=content,
        signatures=(KeySignature(key_id=key.key_id, signature=key.sign(kind, genesis, content)),),
    )


def decode_content(signed: Signed) -> Any:
    """Decode the content of a signed statement by its kind. Raises FormatError for an unknown kind."""
    # The kind decides what the bytes mean, and a signature covers it: the same bytes under another kind would
    # be another statement.
    cls = KINDS.get(signed.kind)
    if signed.kind in RESERVED_KINDS:
        raise FormatError(f"statements of kind '{signed.kind}' are reserved for a later version")
    if cls is None:
        raise FormatError(f"unknown kind of statement {signed.kind[:40]!r}")
    return decode(cls, signed.content)
