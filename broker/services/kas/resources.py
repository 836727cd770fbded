"""Resources of a running key access service: what all its channels share, and its alarms."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.clock import day_of
from broker.directory import Directory
from broker.errors import KasUnavailable, NotEntitled
from broker.logger import get_logger
from broker.participant.participant import Participant
from broker.services.kas.custody import Custody
from broker.services.kas.journal import Journal
from broker.services.kas.keystore import KeyStore

__all__ = ["Alarms", "Resources"]

_MAX_ALARMS = 1000
_log = get_logger("broker.access")


class Alarms:
    """The alarms that an operator must look at, by channel number. They are in memory only.

    An alarm that stops a channel stands in the journal as well, and comes back from there at a restart.
    """

    def __init__(self) -> None:
        self._texts: dict[int, dict[str, str]] = {}
        """By channel number, then by detail: the whole text."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each alarm, channel by channel."""
        return tuple(text for alarms in self._texts.values() for text in alarms.values())

    def add(self, channel_number: int, detail: str, text: str) -> bool:
        """Add an alarm. Returns False when the channel has it already, or when there are 1000 alarms."""
        alarms = self._texts.setdefault(channel_number, {})
        if detail in alarms or sum(map(len, self._texts.values())) >= _MAX_ALARMS:
            return False
        alarms[detail] = text
        return True

    def clear(self, channel_number: int) -> None:
        """Remove the alarms of one channel, and of no other."""
        self._texts.pop(channel_number, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the service works with: its participant, keys and journal, and what it holds of batches."""

    participant: Participant
    keystore: KeyStore
    journal: Journal
    custody: Custody
    alarms: Alarms = field(default_factory=Alarms)

    @property
    def directory(self) -> Directory:
        """The directory as far as it was read."""
        return self.participant.directory

    @property
    def genesis(self) -> bytes:
        """The SHA-256 of the coalition's genesis."""
        return self.directory.genesis

    @property
    def own_key(self) -> bytes:
        """The id of the key with which we sign."""
        return self.participant.keyring.signing.key_id

    def today(self) -> int:
        """Return today's UTC day, counted from 1970-01-01."""
        return day_of(self.participant.clock())

    def check_own_key(self, directory: Directory) -> None:
        """Raise KasUnavailable when our signing key or our role is no longer in force.

        A service whose key was stolen and revoked must stop by itself: nobody else can stop it, and its
        entries are void from the revocation on, so everything that it released would be unlogged.
        """
        name = self.participant.name
        if directory.kas_name != name:
            raise KasUnavailable(f"'{name}' is not the key access service of this directory")
        try:
            directory.signer(name, self.participant.keyring.signing.key_id)
        except NotEntitled as error:
            raise KasUnavailable(f"the service stops: {error.message}") from None

    def sound_alarm(self, channel_number: int, detail: str) -> None:
        """Tell an operator about a channel, once."""
        name = self.directory.numbers.get(channel_number)
        text = f"channel {channel_number}: {detail}" if name is None else f"channel '{name}': {detail}"
        if self.alarms.add(channel_number, detail, text):
            _log.error("alarm", detail=text)
