"""What the service says: answers sealed to who asked, and answers to collection queries, signed."""

from __future__ import annotations

from collections.abc import Mapping

from broker.access.answers import Outcome, RecordRef, encode_answer, receipt_outcomes
from broker.access.request_checks import CheckedRequest
from broker.crypto.seal import answer_info, seal
from broker.errors import NotEntitled, RequestRefused
from broker.logger import get_logger
from broker.services.kas.channel_service import Means
from broker.wire.access import CollectionAnswer, EntryRef, LogEntry, Receipt
from broker.wire.encoding import encode, sign_content
from broker.wire.manifest import Collected, Signed

__all__ = ["seal_answer", "sign_collections"]

_log = get_logger("broker.access")


def seal_answer(
    means: Means,
    checked: CheckedRequest,
    entry: EntryRef | None,
    outcomes: Mapping[RecordRef, Outcome],
    shares: Mapping[RecordRef, bytes],
    entries: tuple[LogEntry, ...],
) -> bytes:
    """The answer, sealed to the newest receiving key of who asked; RequestRefused where it has none."""
    request = checked.request
    receipt = Receipt(
        issuer=means.participant.name,
        issued_at=means.participant.clock(),
        request_digest=checked.digest,
        entry=entry,
        outcomes=receipt_outcomes(outcomes),
    )
    answer = encode_answer(_sign(means, "receipt", encode(receipt)), shares, entries)
    try:
        _, public = means.directory.receiving_key(request.issuer)
    except NotEntitled as error:
        raise RequestRefused(error.message) from None
    _log.info(
        "access answered",
        request=checked.digest.hex(),
        agency=request.issuer,
        channel=request.channel,
        asked=len(outcomes),
        released=sum(outcome.released for outcome in outcomes.values()),
        entry=None if entry is None else entry.offset,
    )
    return seal(public, answer, answer_info(checked.digest))


def sign_collections(means: Means, query_digest: bytes, batches: tuple[Collected, ...]) -> bytes:
    """The answer to a collection query."""
    content = CollectionAnswer(
        issuer=means.participant.name,
        issued_at=means.participant.clock(),
        query_digest=query_digest,
        batches=batches,
    )
    return encode(_sign(means, "collection-answer", encode(content)))


def _sign(means: Means, kind: str, content: bytes) -> Signed:
    return sign_content(means.participant.keyring.signing, kind, means.genesis, content)
