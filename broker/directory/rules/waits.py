"""The rule for the clock of the directory, and what waits for it.

While anything waits the key access service (KAS) signs a ``directory-clock`` at most hourly. Keys that were
pending for 72 hours by the rule of ``directory.clocks`` take effect with it.
"""

from __future__ import annotations

from dataclasses import replace

from broker.clock import DAY_US, HOUR_US
from broker.directory.case import Case
from broker.directory.changes import with_key
from broker.directory.clocks import ClockMark
from broker.directory.directory import Directory
from broker.directory.party import KeyState, Party, PartyKind
from broker.directory.rules.channel_keys import EPOCH_US
from broker.errors import NotEntitled, SignatureInvalid
from broker.wire.statements import DirectoryClock, KeyUse

__all__ = ["PENDING_US", "directory_clock", "may_tell_time", "waits_for_clock"]

PENDING_US = 72 * HOUR_US
"""How long a key stays pending in the open when not all who must vouch for it at once did: 72 hours."""


def directory_clock(case: Case, statement: DirectoryClock) -> Directory:
    """Say the time: the KAS signs. Pending keys whose 72 hours are over take effect."""
    before = case.before
    issuer = statement.header.issuer
    allowed = _clock_keys(before, issuer)
    if not allowed:
        raise NotEntitled(f"{issuer[:80]!r} is not the key access service, which tells the time")
    if not case.signers(allowed):
        raise SignatureInvalid(f"no key of {issuer[:80]!r} signed this 'directory-clock'")
    header = statement.header
    mark = ClockMark(size=header.directory_size, issued_at=header.issued_at, appended_at=case.appended_at)
    return _activate_due(replace(before, clocks=before.clocks.with_mark(mark)))


def may_tell_time(directory: Directory, name: str) -> bool:
    """Tell whether this party may sign a ``directory-clock`` now."""
    return bool(_clock_keys(directory, name))


def _clock_keys(directory: Directory, issuer: str) -> dict[bytes, bytes]:
    """Return the signing keys of this issuer that may say the time, by key id."""
    party = directory.parties.get(issuer)
    if party is None or party.kind is not PartyKind.KAS:
        return {}
    state = KeyState.ACTIVE
    in_charge = None if directory.kas_name is None else directory.parties[directory.kas_name]
    if in_charge is None or not in_charge.active(KeyUse.SIGNING):
        # A service whose keys are all revoked can tell no time, and its new keys would be pending for ever.
        # So the pending service tells it. That alone shortens no wait: append times come from the log.
        state = KeyState.PENDING
    elif issuer != in_charge.name:
        return {}
    return {
        key.key_id: key.public
        for key in party.keys.values()
        if key.use is KeyUse.SIGNING and key.state is state
    }


def _activate_due(directory: Directory) -> Directory:
    clocks = directory.clocks
    due = [entry for entry in directory.pending if clocks.have_passed(PENDING_US, since=entry.size)]
    waiting = tuple(entry for entry in directory.pending if entry not in due)
    after = replace(directory, pending=waiting)
    for entry in due:
        key = after.parties[entry.party].keys[entry.key_id]
        active = replace(key, state=KeyState.ACTIVE, active_size=directory.size)
        after = with_key(after, entry.party, active)
    return after


def waits_for_clock(directory: Directory) -> bool:
    """Tell whether anything in this directory waits for time to pass.

    That is a pending key, a channel whose newest epoch is less than an hour old, or a successor that is less
    than a day old.
    """
    clocks = directory.clocks
    return (
        bool(directory.pending)
        or any(
            channel.is_open
            and channel.newest_published >= 0
            and not clocks.have_passed(EPOCH_US, since=channel.published_size)
            for channel in directory.channels.values()
        )
        or any(_has_young_successor(directory, party) for party in directory.parties.values())
    )


def _has_young_successor(directory: Directory, party: Party) -> bool:
    for use in (KeyUse.SIGNING, KeyUse.RECEIVING):
        keys = party.active(use)
        if len(keys) > 1 and not directory.clocks.have_passed(DAY_US, since=keys[0].active_size + 1):
            return True
    return False
