"""Admitting records to lanes: each record checked against the directory, what was found kept.

Records of one kind repeat their terms, so most of them cost one look into a table.
"""

from __future__ import annotations

import asyncio

from broker.clock import day_of
from broker.directory import Directory
from broker.errors import KasUnavailable, OperatorError, UsageError
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.publish.lanes import Lane
from broker.publish.permission import check_publisher, check_terms, intake_of
from broker.records.record import Record
from broker.wire.terms import RecordTerms

__all__ = ["REFRESH_S", "Admission"]

REFRESH_S = 1.0
"""The directory is read on at most so often."""

_MAX_KNOWN = 4096

_log = get_logger("broker.exchange")


class Admission:
    """Says which lane a record belongs to; UsageError where it may not be published."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._known: dict[tuple[str, str, RecordTerms], tuple[Lane, RecordTerms]] = {}
        """What may be published by the directory and on the day of ``_known_for``."""
        self._known_for = (-1, -1)
        self._refreshed_at = float("-inf")

    def known(self, channel: str, record: Record) -> tuple[Lane, RecordTerms] | None:
        """The lane of a record whose like was admitted before, and one object for all equal terms."""
        now = (self._participant.follower.history.size, day_of(self._participant.clock()))
        if self._known_for != now or len(self._known) >= _MAX_KNOWN:
            self._known.clear()
            self._known_for = now
        return self._known.get((channel, record.record_type, record.terms))

    async def admit(self, channel: str, record: Record) -> tuple[Lane, RecordTerms]:
        """The lane of a record that may be published, by what we know or else by the directory's end."""
        try:
            lane = self._lane(channel, record)
        except (UsageError, KasUnavailable):
            await self.directory()
            lane = self._lane(channel, record)
        known = self._known[channel, record.record_type, record.terms] = lane, record.terms
        return known

    async def directory(self) -> Directory:
        """The directory, read on at most each second; as far as it is known where the log cannot be read."""
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= REFRESH_S:
            try:
                await self._participant.follower.refresh()
                self._refreshed_at = now
            except OperatorError as error:
                _log.warning("directory not read", error=error.message)
        return self._participant.directory

    def _lane(self, channel_name: str, record: Record) -> Lane:
        participant = self._participant
        directory, day = participant.directory, day_of(participant.clock())
        key_id, record_type = participant.keyring.signing.key_id, record.record_type
        channel, _ = check_publisher(directory, participant.name, key_id, channel_name, record_type)
        check_terms(channel, record.terms, day)
        intake_of(directory, day)
        return Lane(
            channel=channel_name,
            topic=participant.store.current(record_type).topic,
            partition=channel.number,
            record_type=record_type,
            releasable_to=record.terms.handling.releasable_to,
        )
