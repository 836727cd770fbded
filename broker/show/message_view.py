"""Messages of a log, as the holder of some keys can see them.

How much can be seen depends on the keys: a member and an auditor see the terms of each record, everybody
sees the size and the append time of each message. Nothing is verified here; that is the work of replay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from broker.directory import Channel, Directory, Use
from broker.errors import BrokerError
from broker.log import StoredMessage
from broker.participant.keyring import Keyring
from broker.show.statement_text import statement_text
from broker.show.text import day_text
from broker.verify.entitlement import ACCESS_TOPIC
from broker.wire import manifest as m
from broker.wire.access import AccessRequest
from broker.wire.encoding import STATEMENT_KINDS, Statement, decode, decode_content
from broker.wire.envelope import Envelope, OpenedManifest, open_manifest, parse_envelope
from broker.wire.manifest import Signed
from broker.wire.terms import RecordTerms

__all__ = ["MessageView", "PartitionView", "directory_view"]

Facts = dict[str, object]
"""What a program is told of a message, beside its offset, time and size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """What can be seen of one message: ``text`` for people, ``facts`` for a program."""

    offset: int
    appended_at: int
    """In microseconds since 1970-01-01."""
    kind: str
    size: int
    """Bytes of key and value."""
    text: str
    epoch: int | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(slots=True)
class PartitionView:
    """One partition of a channel, seen through the keys of one participant.

    A body can be described only with the manifest before it, so a view is shown the messages in their
    order, and begins early enough to see the manifest of the first body that is asked for.
    """

    topic: str
    channel: Channel
    directory: Directory
    keyring: Keyring
    # These three describe the newest manifest. `see` and `_manifest` alone write them. `_opened` stays None
    # when the manifest is sealed to others.
    _opened: OpenedManifest | None = None
    _manifest_id: bytes = b""
    _epoch: int = -1

    def see(self, message: StoredMessage) -> MessageView:
        """Return what can be seen of the partition's next message."""
        key = message.key or b""
        value = message.value or b""
        envelope = parse_envelope(message.key, message.value)
        if envelope is not None:
            # Forgotten before the new manifest is opened. If it does not open, its bodies must not be
            # described by the terms of the manifest before.
            self._opened = None
            self._manifest_id = envelope.manifest_id
            self._epoch = envelope.epoch
            text, facts = self._manifest(envelope)
            return _view(message, "manifest", text, facts, envelope.epoch)
        # The key of a body is its manifest's id and a 4-byte index; its value begins with 2.
        if len(key) == 20 and value[:1] == b"\x02":
            text, facts = self._body(key[:16], int.from_bytes(key[16:], "big"))
            epoch = self._epoch if key[:16] == self._manifest_id else None
            return _view(message, "body", text, facts, epoch)
        return _view(message, "unknown", "neither manifest nor body", {})

    def _use(self) -> Use:
        return "access" if self.topic == ACCESS_TOPIC else "metadata"

    def _manifest(self, envelope: Envelope) -> tuple[str, Facts]:
        epoch_key = self.keyring.epoch_key(self.directory, self.channel.name, envelope.epoch, self._use())
        if epoch_key is None:
            return f"sealed: no {self._use()} key of epoch {envelope.epoch}", {"sealed": True}
        try:
            opened = open_manifest(
                envelope, topic=self.topic, partition=self.channel.number, keys=epoch_key.keys
            )
        except BrokerError as error:
            return f"not a manifest: {error.message}", {}
        if opened is None:
            # Everybody can append, and only a holder of the epoch's key can seal what opens here.
            return "not a manifest: it does not open here", {}
        self._opened = opened
        manifest = opened.manifest
        text = f"{manifest.header.issuer}: {manifest.count} {manifest.record_type}"
        return text, {
            "batch_id": opened.batch_id.hex(),
            "issuer": manifest.header.issuer,
            "record_type": manifest.record_type,
            "count": manifest.count,
            "sequence": manifest.header.sequence,
            "directory_size": manifest.header.directory_size,
        }

    def _body(self, manifest_id: bytes, index: int) -> tuple[str, Facts]:
        opened = self._opened
        # Everybody can append a body with any key, so the index and the manifest are checked before the terms
        # are looked up.
        if opened is None or opened.manifest.manifest_id != manifest_id or index >= opened.manifest.count:
            return "locked", {"locked": True}
        entries = opened.entries
        terms = entries.terms[entries.term_of[index]]
        record_id = str(UUID(bytes=entries.record_id(index)))
        text, facts = _terms(terms)
        facts = {"index": index, "record_id": record_id, **facts, "locked": True}
        # The body of an access entry has no release share, so nothing is said of one.
        if self.topic == ACCESS_TOPIC:
            return text, facts
        content = self.keyring.epoch_key(self.directory, self.channel.name, self._epoch, "content")
        # A member holds one of the two shares of the record's key; an auditor holds neither.
        lock = "locked" if content is None else "locked: needs a release share, which is logged"
        return f"{record_id} {text}; {lock}", facts


def _view(
    message: StoredMessage, kind: str, text: str, facts: Facts, epoch: int | None = None
) -> MessageView:
    return MessageView(
        offset=message.offset,
        appended_at=message.appended_at,
        kind=kind,
        size=len(message.key or b"") + len(message.value or b""),
        text=text,
        epoch=epoch,
        facts=facts,
    )


def _terms(terms: m.Terms) -> tuple[str, Facts]:
    match terms:
        case RecordTerms():
            return _record(terms)
        case m.AccessTerms():
            return _access(terms)
        case m.CollectionTerms():
            statuses = Counter(batch.status.value for batch in terms.batches)
            listed = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
            return f"batches taken over: {listed}", {"entry": "COLLECTION", "batches": dict(statuses)}
        case m.DenialTerms():
            text = f"{terms.count} more denials of {terms.agency}"
            return text, {"entry": "DENIALS", "agency": terms.agency, "count": terms.count}
        case m.LateTerms():
            text = f"restores {len(terms.messages)} messages that were lost from {terms.offset} on"
            return text, {"entry": "LATE", "offset": terms.offset}
        case m.PositionTerms():
            return "how far the key access service has read", {"entry": "POSITIONS"}
        case m.ErasureTerms():
            return f"{len(terms.targets)} records erased", {"entry": "ERASURE", "count": len(terms.targets)}


def _record(terms: RecordTerms) -> tuple[str, Facts]:
    handling = terms.handling
    codes = "+".join(handling.codes)
    tlp = handling.tlp.replace("_", "+")
    only = f" only for {', '.join(handling.releasable_to)}" if handling.releasable_to else ""
    review = day_text(terms.review_by)
    erase = day_text(terms.erase_by)
    text = f"{terms.action} {terms.purpose} {codes} {tlp}{only}, review {review}, erase {erase}"
    return text, {
        "action": terms.action.value,
        "purpose": terms.purpose.value,
        "codes": [code.value for code in handling.codes],
        "tlp": tlp,
        "releasable_to": list(handling.releasable_to),
        "review_by": review,
        "erase_by": erase,
    }


def _access(terms: m.AccessTerms) -> tuple[str, Facts]:
    try:
        # The request is the requester's own signed bytes. The service logs them as they came, so they may be
        # anything.
        request = decode(AccessRequest, terms.request.content)
    except BrokerError:
        return "an access whose request cannot be read", {"entry": "ACCESS"}
    outcomes: Counter[str] = Counter()
    for outcome in terms.outcomes:
        word = outcome.verdict.value if outcome.reason is None else f"{outcome.verdict} {outcome.reason}"
        # A range of the access log that was asked for has no indexes, and counts as one.
        outcomes[word] += max(len(outcome.indexes), 1)
    listed = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
    text = f"{request.operation} by {request.issuer} for {request.purpose}: {listed}"
    return text, {
        "entry": "ACCESS",
        "operation": request.operation.value,
        "issuer": request.issuer,
        "purpose": request.purpose.value,
        "outcomes": dict(outcomes),
    }


def directory_view(message: StoredMessage, fault: str | None) -> MessageView:
    """Return what a message of the directory says; ``fault`` is why it does not count, if it does not."""
    try:
        signed = decode(Signed, message.value or b"")
        # Checked before decode_content(), which also knows statements of other topics. A stranger's kind may
        # have any length, so only its beginning is quoted.
        if signed.kind not in STATEMENT_KINDS:
            raise BrokerError(f"kind {signed.kind[:40]!r}")
        statement: Statement = decode_content(signed)
    except BrokerError as error:
        return _view(message, "unknown", f"not a statement: {error.message}", {"counts": False})
    text = f"{statement.header.issuer} {statement_text(statement)}"
    if fault is not None:
        text += f"; DOES NOT COUNT: {fault}"
    facts = {
        "issuer": statement.header.issuer,
        "signatures": len(signed.signatures),
        "counts": fault is None,
    }
    return _view(message, signed.kind, text, facts)
