"""Admission of records: each record is checked against the directory and given its lane.

Most records of a feed have equal terms, so what was found for one record is kept for the next: such a record
costs one look into a table. What is kept holds for one state of the directory and one day, since both may
change what is allowed.
"""

from __future__ import annotations

import asyncio

from broker.clock import day_of
from broker.directory import Directory
from broker.errors import KasUnavailable, LogForked, OperatorError, UsageError
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.publish.lanes import Lane
from broker.publish.permission import check_publisher, check_terms, intake_of
from broker.records.record import Record
from broker.wire.terms import RecordTerms

__all__ = ["REFRESH_S", "Admission"]

REFRESH_S = 1.0
"""Seconds between two readings of the directory, at least."""

_MAX_KNOWN = 4096
"""Entries of the table; a caller whose records all have terms of their own must not fill the memory."""

_log = get_logger("broker.publish")


class Admission:
    """Decides for one publisher whether a record may be published, and in which lane."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._known: dict[tuple[str, str, RecordTerms], tuple[Lane, RecordTerms]] = {}
        """The lane of each kind of record, for the state of ``_known_for``; ``known`` empties it."""
        self._known_for = (-1, -1)
        """Size of the directory, and day."""
        # Earlier than any time of an event loop, so the first call of ``directory`` reads.
        self._refreshed_at = float("-inf")

    def known(self, channel: str, record: Record) -> tuple[Lane, RecordTerms] | None:
        """Return the lane and the terms of a record if a record like it was admitted before, else None.

        All records with equal terms are given one object for them, which a batch then counts once.
        """
        now = (self._participant.follower.history.size, day_of(self._participant.clock()))
        if self._known_for != now or len(self._known) >= _MAX_KNOWN:
            # The whole table is emptied, because no entry is worth more than another. A caller whose records
            # all have terms of their own then pays what it would pay without a table.
            self._known.clear()
            self._known_for = now
        return self._known.get((channel, record.record_type, record.terms))

    async def admit(self, channel: str, record: Record) -> tuple[Lane, RecordTerms]:
        """Return the lane and the terms of a record that may be published.

        A refusal counts only after the directory was read on, because a newer statement may allow the
        record. Raises UsageError, or KasUnavailable when there is no intake key.
        """
        try:
            lane = self._lane(channel, record)
        except (UsageError, KasUnavailable):
            await self.directory()
            lane = self._lane(channel, record)
        known = (lane, record.terms)
        self._known[channel, record.record_type, record.terms] = known
        return known

    async def directory(self) -> Directory:
        """Return the directory, after reading it on if that was not done within the last second.

        When the log cannot be read the directory is returned as far as it is known: the append, which
        needs the log too, will say that the log is away. Raises LogForked when it is another log.
        """
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= REFRESH_S:
            try:
                # Two senders may come here at the same time. The follower lets one of them read, and the
                # other one then finds nothing new.
                await self._participant.follower.refresh()
                # Only a reading that succeeded counts: after a failure the next batch tries again.
                self._refreshed_at = now
            except LogForked:
                # Appended to, the other log would hold a batch that nobody who knew this one can place.
                raise
            except OperatorError as error:
                _log.warning("directory not read", error=error.message)
        return self._participant.directory

    def _lane(self, channel_name: str, record: Record) -> Lane:
        participant = self._participant
        directory = participant.directory
        day = day_of(participant.clock())
        key_id = participant.keyring.signing.key_id
        record_type = record.record_type
        channel, _ = check_publisher(directory, participant.name, key_id, channel_name, record_type)
        check_terms(channel, record.terms, day)
        # The key is not used here. The call raises when no batch could be built, and the caller should learn
        # of it with the record, not when the batch is sent.
        intake_of(directory, day)
        return Lane(
            channel=channel_name,
            topic=participant.store.current(record_type).topic,
            partition=channel.number,
            record_type=record_type,
            releasable_to=record.terms.handling.releasable_to,
        )
