"""Protocol values to bytes and back, strictly.

``encode`` and ``decode`` use the Avro schemas in ``schemas/protocol``. Decoding consumes every
byte and accepts the one encoding that ``encode`` makes, else it raises FormatError.
"""

from __future__ import annotations

from typing import Any, TypeVar

from broker.avro.codec import Codec, compile_schema
from broker.avro.schema import protocol_schema
from broker.errors import FormatError
from broker.wire import access, manifest, statements, terms
from broker.wire.access import AccessRequest, CollectionAnswer, CollectionQuery, Receipt
from broker.wire.manifest import RecordManifest, Signed

__all__ = ["KINDS", "STATEMENT_KINDS", "Statement", "decode", "decode_content", "encode", "kind_of"]

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
    "channel-keys-published": statements.ChannelKeysPublished,
    "channel-keys-confirmed": statements.ChannelKeysConfirmed,
    "channel-keys-complained": statements.ChannelKeysComplained,
    "epoch-granted": statements.EpochGranted,
}
"""Kinds of the directory's statements."""

KINDS: dict[str, type] = {
    **STATEMENT_KINDS,
    "manifest": RecordManifest,
    "access-request": AccessRequest,
    "receipt": Receipt,
    "collection-query": CollectionQuery,
    "collection-answer": CollectionAnswer,
}
"""The closed list of kinds that are ever signed."""

_KIND_OF = {cls: kind for kind, cls in KINDS.items()}

_CLASSES: dict[str, type] = {
    f"{NAMESPACE}.{name}": getattr(module, name)
    for module in (terms, manifest, access, statements)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}

T = TypeVar("T")


_codecs: dict[type, Codec] = {}


def _codec(cls: type) -> Codec:
    codec = _codecs.get(cls)
    if codec is None:
        codec = _codecs[cls] = compile_schema(protocol_schema(cls.__name__), classes=_CLASSES)
    return codec


def encode(value: Any) -> bytes:
    """The Avro encoding of a protocol value; UsageError where a field cannot hold what it is given."""
    return _codec(type(value)).encode(value)


def decode(cls: type[T], data: bytes) -> T:
    """The protocol value of class ``cls`` that these bytes, all of them, encode; else FormatError."""
    value: T = _codec(cls).decode(data)
    return value


def kind_of(value: object) -> str:
    """The kind under which a value of this class is signed."""
    return _KIND_OF[type(value)]


def decode_content(signed: Signed) -> Any:
    """The content of a signed statement, as the class of its kind; FormatError if the kind is unknown."""
    cls = KINDS.get(signed.kind)
    if cls is None:
        raise FormatError(f"unknown kind of statement {signed.kind[:40]!r}")
    return decode(cls, signed.content)
