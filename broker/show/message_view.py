"""A message of a log as a holder of given keys sees it: down to its size and time for everybody else."""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from broker.directory import Channel, Directory, Use
from broker.errors import BrokerError
from broker.log import StoredMessage
from broker.participant.keyring import Keyring
from broker.show.statement_text import says
from broker.show.text import day_text
from broker.wire import manifest as m
from broker.wire.access import AccessRequest
from broker.wire.batch import OpenedManifest, manifest_tag, open_manifest, parse_envelope
from broker.wire.encoding import STATEMENT_KINDS, Statement, decode, decode_content
from broker.wire.manifest import Signed
from broker.wire.terms import RecordTerms

__all__ = ["ACCESS_TOPIC", "MessageView", "PartitionView", "directory_view"]

ACCESS_TOPIC = "access"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """What can be seen of one message: ``says`` in words, ``facts`` for a program."""

    offset: int
    appended_at: int
    kind: str
    size: int
    says: str
    epoch: int | None = None
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class PartitionView:
    """One partition through one participant's keys; nothing is verified here, that is what replay is for."""

    topic: str
    channel: Channel
    directory: Directory
    keyring: Keyring
    _opened: OpenedManifest | None = None
    _manifest_id: bytes = b""
    _epoch: int = -1

    def see(self, message: StoredMessage) -> MessageView:
        """What can be seen of the partition's next message."""
        key, value = message.key or b"", message.value or b""
        envelope = parse_envelope(message.key, message.value)
        if envelope is not None:
            self._opened, self._manifest_id, self._epoch = None, envelope.manifest_id, envelope.epoch
            words, facts = self._manifest(message)
            return _view(message, "manifest", words, facts, envelope.epoch)
        if len(key) == 20 and value[:1] == b"\x02":
            words, facts = self._body(key[:16], int.from_bytes(key[16:], "big"))
            epoch = self._epoch if key[:16] == self._manifest_id else None
            return _view(message, "body", words, facts, epoch)
        return _view(message, "unknown", "neither manifest nor body", {})

    def _use(self) -> Use:
        return "access" if self.topic == ACCESS_TOPIC else "metadata"

    def _manifest(self, message: StoredMessage) -> tuple[str, dict[str, object]]:
        envelope = parse_envelope(message.key, message.value)
        if envelope is None:
            return "", {}
        place = (self.topic, self.channel.number, envelope.epoch)
        epoch_key = self.keyring.epoch_key(self.directory, self.channel.name, envelope.epoch, self._use())
        if epoch_key is None:
            return f"sealed: no {self._use()} key of epoch {envelope.epoch}", {"sealed": True}
        tag = manifest_tag(epoch_key.admit, *place, envelope.manifest_id, envelope.sealed)
        if not hmac.compare_digest(tag, envelope.tag):
            return "no manifest: its tag is wrong", {}
        try:
            opened = open_manifest(
                envelope,
                genesis=self.directory.genesis,
                topic=self.topic,
                partition=self.channel.number,
                key=epoch_key.key,
            )
        except BrokerError as error:
            return f"no manifest: {error.message}", {}
        self._opened = opened
        manifest = opened.manifest
        words = f"{manifest.header.issuer}: {manifest.count} {manifest.record_type}"
        return words, {
            "batch_id": opened.batch_id.hex(),
            "issuer": manifest.header.issuer,
            "record_type": manifest.record_type,
            "count": manifest.count,
            "sequence": manifest.header.sequence,
            "directory_size": manifest.header.directory_size,
        }

    def _body(self, manifest_id: bytes, index: int) -> tuple[str, dict[str, object]]:
        opened = self._opened
        if opened is None or opened.manifest.manifest_id != manifest_id or index >= opened.manifest.count:
            return "locked", {"locked": True}
        entries = opened.entries
        terms = entries.terms[entries.term_of[index]]
        record_id = str(UUID(bytes=entries.record_id(index)))
        words, facts = _terms(terms)
        facts = {"index": index, "record_id": record_id, **facts, "locked": True}
        if self.topic == ACCESS_TOPIC:
            return words, facts
        content = self.keyring.epoch_key(self.directory, self.channel.name, self._epoch, "content")
        lock = "locked" if content is None else "locked: needs a release share, which is logged"
        return f"{record_id} {words}; {lock}", facts


def _view(
    message: StoredMessage, kind: str, words: str, facts: dict[str, object], epoch: int | None = None
) -> MessageView:
    return MessageView(
        offset=message.offset,
        appended_at=message.appended_at,
        kind=kind,
        size=len(message.key or b"") + len(message.value or b""),
        says=words,
        epoch=epoch,
        facts=facts,
    )


def _terms(terms: m.Terms) -> tuple[str, dict[str, object]]:
    match terms:
        case RecordTerms():
            return _record(terms)
        case m.AccessTerms():
            return _access(terms)
        case m.CollectionTerms():
            statuses = Counter(one.status.value for one in terms.batches)
            words = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
            return f"batches taken over: {words}", {"entry": "COLLECTION", "batches": dict(statuses)}
        case m.DenialTerms():
            words = f"{terms.count} more denials of {terms.agency}"
            return words, {"entry": "DENIALS", "agency": terms.agency, "count": terms.count}
        case m.LateTerms():
            words = f"restores {len(terms.messages)} messages that were lost from {terms.offset} on"
            return words, {"entry": "LATE", "offset": terms.offset}
        case m.ErasureTerms():
            return f"{len(terms.targets)} records erased", {"entry": "ERASURE", "count": len(terms.targets)}


def _record(terms: RecordTerms) -> tuple[str, dict[str, object]]:
    handling = terms.handling
    codes, tlp = "+".join(handling.codes), handling.tlp.replace("_", "+")
    only = f" only for {', '.join(handling.releasable_to)}" if handling.releasable_to else ""
    review, erase = day_text(terms.review_by), day_text(terms.erase_by)
    words = f"{terms.action} {terms.purpose} {codes} {tlp}{only}, review {review}, erase {erase}"
    return words, {
        "action": terms.action.value,
        "purpose": terms.purpose.value,
        "codes": [code.value for code in handling.codes],
        "tlp": tlp,
        "releasable_to": list(handling.releasable_to),
        "review_by": review,
        "erase_by": erase,
    }


def _access(terms: m.AccessTerms) -> tuple[str, dict[str, object]]:
    try:
        request = decode(AccessRequest, terms.request.content)
    except BrokerError:
        return "an access whose request cannot be read", {"entry": "ACCESS"}
    outcomes: Counter[str] = Counter()
    for one in terms.outcomes:
        word = one.verdict.value if one.reason is None else f"{one.verdict} {one.reason}"
        outcomes[word] += max(len(one.indexes), 1)
    said = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
    words = f"{request.operation} by {request.issuer} for {request.purpose}: {said}"
    return words, {
        "entry": "ACCESS",
        "operation": request.operation.value,
        "issuer": request.issuer,
        "purpose": request.purpose.value,
        "outcomes": dict(outcomes),
    }


def directory_view(message: StoredMessage, error: str | None) -> MessageView:
    """A message of the directory: what it says, and why it does not count where it does not."""
    value = message.value or b""
    try:
        signed = decode(Signed, value)
        if signed.kind not in STATEMENT_KINDS:
            raise BrokerError(f"kind {signed.kind[:40]!r}")
        statement: Statement = decode_content(signed)
    except BrokerError as problem:
        return _view(message, "unknown", f"no statement: {problem.message}", {"counts": False})
    words = f"{statement.header.issuer} {says(statement)}"
    facts = {
        "issuer": statement.header.issuer,
        "signatures": len(signed.signatures),
        "counts": error is None,
    }
    return _view(message, signed.kind, words if error is None else f"{words}; DOES NOT COUNT: {error}", facts)
