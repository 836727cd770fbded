"""The judge of one partition: it says of each message whether it is a valid manifest, and why not.

The checks run in this order, cheap ones before dear ones, and the first that fails decides:

    (1) the message has the form of a manifest message
    (2) its epoch exists and is confirmed
    (3) its message was not seen lately: a copy costs a hash and a look-up
    (4) we hold the key of the epoch; otherwise the manifest and its bodies are opaque to us
    (5) a holder of the seed sealed it for this place: garbage of an outsider costs one attempt of AES-GCM
    (6) it has the one right form
    (7) a key that the directory lists for its issuer, in whatever state, made its signature
    (8) its view of the directory is a beginning of ours
    (9) its issuer was entitled in that view, under an epoch that was accepted there; and its key is not
        revoked at the mark
   (10) what it says of its records is allowed in the channel, in that view
   (11) all of that is still true at the mark; otherwise the batch is stale (``standing``)
   (12) its place in its stream

Whoever holds the epoch's keys can seal a manifest that names any issuer. So whatever fails before (8) is
bytes of an unknown writer, and its violation names nobody.

Theory of operation. ``judge`` only reads: asked twice, it answers the same. The reader decides what
the verdict means at this place of the log, and then tells the judge what to remember, by ``accept``,
``remember_rejected`` or ``note_gap``. A manifest may name more of the directory than we have read;
``judge`` then raises DirectoryBehind, and is asked again when the directory is read to its end.

The mark is the largest directory size that an accepted manifest named. It keeps a suspended agency
from publishing under an old view of the directory, one in which it was still entitled: what it publishes is
stale.

Ownership. Every field below belongs to Judge alone. The mark, the streams and the closed streams are
stored (``snapshot``) and resumed (``resume``). The fingerprints are not: they only save time and recognise
copies, and a reader that starts without them judges a copy anew, by its stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from broker.directory import EpochKey, History
from broker.errors import FormatError, SignatureInvalid, UsageError
from broker.log.protocol import StoredMessage
from broker.verify.entitlement import listed_key, verify_signature
from broker.verify.events import ReaderState
from broker.verify.standing import find_lapse, has_revoked_key, issuer_fault, terms_fault
from broker.verify.streams import Head, StreamKey, Streams
from broker.verify.verdict import (
    Accepted,
    DirectoryBehind,
    NewestManifest,
    Opaque,
    Rejected,
    Repeat,
    Verdict,
)
from broker.verify.violations import Kind, Place
from broker.wire.envelope import Envelope, OpenedManifest, open_manifest, parse_envelope

__all__ = ["MAX_SEEN", "Judge", "Undo"]

MAX_SEEN = 65_536
"""Manifests that are remembered of one partition, by the fingerprints of their messages."""

_FOR_GOOD = -1
_UNACCOUNTED = Rejected(Kind.UNACCOUNTED, "no valid manifest accounts for it")


class Undo(NamedTuple):
    """What accepting a manifest replaced: the head of its stream, if there was one, and the mark."""

    stream: StreamKey
    head: Head | None
    mark: int


class Judge:
    """Judges the messages of one partition as manifests.

    ``keys(epoch)`` returns the key that opens manifests of an epoch, or None. ``directory_fault(size)``
    returns the place from which on the directory below that size differs from what others saw, or None.
    """

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        history: History,
        keys: Callable[[int], EpochKey | None],
        directory_fault: Callable[[int], Place | None] | None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self._history = history
        self._keys = keys
        self._directory_fault = directory_fault or (lambda _size: None)
        self._mark = 0
        self._streams = Streams()
        # For each manifest that was met the mark at which its copy is void without looking, or _FOR_GOOD.
        # The deque holds the same fingerprints, oldest first; only `_remember` writes the two.
        self._seen: dict[bytes, int] = {}
        self._seen_order: deque[bytes] = deque()
        # The same manifests twice, by stream and by fingerprint; only `accept` writes the two.
        self._newest: dict[StreamKey, NewestManifest] = {}
        self._newest_by_print: dict[bytes, NewestManifest] = {}

    @property
    def mark(self) -> int:
        """The largest directory size that an accepted manifest named, 0 at first."""
        return self._mark

    # stored state

    def resume(self, state: ReaderState) -> None:
        """Take over the mark and the streams of a stored state, before anything is judged."""
        self._mark = state.mark
        for key, sequence, digest, offset in state.heads:
            self._streams.put(key, Head(sequence, digest, offset))
        for key in state.closed:
            self._streams.close(key)

    def snapshot(self, next_offset: int, undo: Undo | None = None) -> ReaderState:
        """Return the state in which a reader resumes at ``next_offset``.

        ``undo`` belongs to the manifest at that offset, which the resumed reader will judge once more:
        the state is the one before it was accepted.
        """
        mark = self._mark
        heads = {key: (head.sequence, head.digest, head.offset) for key, head in self._streams.items()}
        if undo is not None:
            mark = undo.mark
            heads.pop(undo.stream, None)
            if undo.head is not None:
                heads[undo.stream] = (undo.head.sequence, undo.head.digest, undo.head.offset)
        return ReaderState(
            next_offset=next_offset,
            mark=mark,
            heads=tuple((key, *head) for key, head in heads.items()),
            closed=self._streams.closed(),
        )

    # remembering, in bounded memory

    def accept(self, accepted: Accepted) -> Undo | None:
        """Move the head of the manifest's stream, and the mark, to this manifest.

        Returns what the move replaced, or None where the stream does not move.
        """
        newest = accepted.newest
        self._remember(newest.fingerprint, _FOR_GOOD)
        head = accepted.step.head
        if head is None:
            return None
        stream = accepted.stream
        undo = Undo(stream, self._streams.head(stream), self._mark)
        closed = self._streams.put(stream, head)
        for gone in (stream, closed):
            older = None if gone is None else self._newest.pop(gone, None)
            if older is not None:
                self._newest_by_print.pop(older.fingerprint, None)
        self._newest[stream] = newest
        self._newest_by_print[newest.fingerprint] = newest
        self._mark = max(self._mark, accepted.opened.manifest.header.directory_size)
        return undo

    def remember_rejected(self, rejected: Rejected) -> None:
        """Remember a rejected manifest for as long as a copy would be rejected too.

        A key that nobody knows now may be listed at a later mark. A reader that starts later remembers none
        and judges the copy by that key, so every reader must judge it anew: two readers of one log never
        disagree.
        """
        if rejected.fingerprint is not None:
            self._remember(rejected.fingerprint, self._mark if rejected.is_passing else _FOR_GOOD)

    def note_gap(self, stream: StreamKey, lost: tuple[int, int], place: Place) -> None:
        """Remember which sequences of a stream are lost, and the violation that reported it."""
        self._streams.note_gap(stream, lost, place)

    def _remember(self, fingerprint: bytes, mark: int) -> None:
        if fingerprint not in self._seen:
            self._seen_order.append(fingerprint)
        self._seen[fingerprint] = mark
        if len(self._seen_order) > MAX_SEEN:
            del self._seen[self._seen_order.popleft()]

    # judging: from here on nothing is written

    def judge(self, message: StoredMessage, directory_read: bool) -> Verdict:
        """Return what this message is.

        Raises DirectoryBehind where only the unread rest of the directory can tell; never when
        ``directory_read`` says that there is no such rest.
        """
        envelope = parse_envelope(message.key, message.value)  # (1)
        if envelope is None:
            return _UNACCOUNTED
        rejected = self._judge_epoch(envelope, directory_read)  # (2)
        if rejected is not None:
            return rejected
        fingerprint = envelope.fingerprint
        if self._seen.get(fingerprint) in (_FOR_GOOD, self._mark):  # (3)
            newest = self._newest_by_print.get(fingerprint)
            if newest is not None:
                return Repeat(newest)
            return Rejected(Kind.MANIFEST_COPIED, "copy of an earlier manifest")
        epoch_key = self._keys(envelope.epoch)  # (4)
        if epoch_key is None:
            marked = self._history.upto(self._mark).channel_at(self.partition)
            return Opaque(may_count=marked is None or envelope.epoch >= marked.oldest_accepted)
        try:
            opened = open_manifest(envelope, topic=self.topic, partition=self.partition, keys=epoch_key.keys)
        except (FormatError, UsageError) as error:
            return Rejected(Kind.MANIFEST_MALFORMED, error.message, fingerprint=fingerprint)  # (6)
        if opened is None:
            return _UNACCOUNTED  # (5)
        return self._judge_opened(opened, message.offset, fingerprint, directory_read)

    def _judge_epoch(self, envelope: Envelope, directory_read: bool) -> Rejected | None:
        """Check (2); None where the epoch passes."""
        latest = self._history.latest
        channel = latest.channel_at(self.partition)
        epoch = channel.epochs.get(envelope.epoch) if channel else None
        if epoch is None or epoch.confirmed_at is None:
            if not directory_read:
                raise DirectoryBehind
            # An altered directory can only hide an epoch that may have existed: blame it for no other.
            lost = channel is None or envelope.epoch <= channel.newest_published + 1
            cause = self._directory_fault(latest.size + 1) if lost else None
            return Rejected(Kind.EPOCH_UNKNOWN, f"epoch {envelope.epoch} is not confirmed", cause)
        return None

    def _judge_opened(
        self, opened: OpenedManifest, offset: int, fingerprint: bytes, directory_read: bool
    ) -> Accepted | Rejected:
        """Checks (7) to (12) of a manifest that opened."""
        rejected = self._judge_signature(opened, fingerprint, directory_read)  # (7)
        if rejected is None:
            rejected = self._judge_view(opened, fingerprint, directory_read)  # (8)
        if rejected is not None:
            return rejected
        header = opened.manifest.header
        view = self._history.at(header.directory_size)
        marked = self._history.upto(max(view.size, self._mark))
        fault = issuer_fault(view, opened)  # (9)
        if fault is None and has_revoked_key(marked, opened):
            fault = issuer_fault(marked, opened)
        if fault is not None:
            return Rejected(fault.kind, fault.detail, None, fingerprint)
        # A manifest that fails at (10) is accepted all the same: it is genuine and moves its stream, or
        # the next batch of its issuer would look as if one before it were lost. It is not delivered.
        refused = terms_fault(view, opened)  # (10)
        lapse = None
        if refused is None and marked is not view:
            lapse = find_lapse(self._history, opened, marked.size)  # (11)
        step = self._streams.judge(header, opened.batch_id, offset)  # (12)
        manifest = opened.manifest
        newest = NewestManifest(fingerprint, manifest.manifest_id, opened.entries.digests, manifest.count)
        stream = (header.issuer, header.epoch, header.stream)
        return Accepted(opened, newest, stream, marked.size, step, refused and refused.detail, lapse)

    def _judge_signature(
        self, opened: OpenedManifest, fingerprint: bytes, directory_read: bool
    ) -> Rejected | None:
        """Check (7); None where a key of the issuer made the signature."""
        latest = self._history.latest
        issuer = opened.manifest.header.issuer
        is_listed = listed_key(latest, issuer, opened.key_id) is not None
        if not is_listed and not directory_read:
            raise DirectoryBehind
        try:
            verify_signature(latest, opened.signed, issuer)
        except SignatureInvalid as error:
            # An altered directory may hide the key. An unknown key may also be listed later.
            cause = None if is_listed else self._directory_fault(opened.manifest.header.directory_size)
            return Rejected(Kind.UNACCOUNTED, error.message, cause, fingerprint, is_passing=not is_listed)
        return None

    def _judge_view(
        self, opened: OpenedManifest, fingerprint: bytes, directory_read: bool
    ) -> Rejected | None:
        """Check (8); None where the issuer saw a beginning of our directory."""
        header = opened.manifest.header
        history = self._history
        size = header.directory_size
        if size > history.latest.size and not directory_read:
            raise DirectoryBehind
        if not 0 <= size <= history.latest.size:
            detail = f"directory_size {size} of '{header.issuer}' is beyond {history.latest.size}"
        elif history.root_at(size) != header.directory_root:
            detail = f"'{header.issuer}' saw another directory of {size} statements"
        else:
            return None
        return Rejected(Kind.VIEW_UNKNOWN, detail, self._directory_fault(size), fingerprint)
