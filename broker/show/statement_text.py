"""Directory statements in words, as they are shown before a key signs them and when a log is inspected.

A person who signs a statement relies on these words. So they come from the signed content alone. Names, key
ids, thresholds, mandates and rules that a statement puts in force are in its sentence, and none of them is
shortened: another key could match a shortened id. ``statement_fields`` shows the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.crypto.seal import receiving_key_id
from broker.crypto.sign import signing_key_id
from broker.show.text import day_text, time_text
from broker.wire import statements as s
from broker.wire.encoding import Statement

__all__ = ["statement_text"]

_JOINING = {s.JoiningRule.ALL: "all members", s.JoiningRule.MAJORITY: "a majority of the members"}


def statement_text(statement: Statement) -> str:
    """Return what a statement says, as a sentence whose subject, the issuer, the caller puts before it."""
    match statement:
        case s.Genesis():
            return (
                f"founds '{statement.coalition}' with {len(statement.authority_keys)} authority keys, "
                f"of which {statement.threshold} sign together: {_signing_ids(statement.authority_keys)}"
            )
        case s.AuthorityRotated():
            return (
                f"replaces the authority's keys by {len(statement.authority_keys)}, "
                f"of which {statement.threshold} sign together: {_signing_ids(statement.authority_keys)}"
            )
        case s.AgencyAdmitted():
            return f"admits agency {statement.agency} ({statement.name}) with {_first_keys(statement)}"
        case s.AgencySuspended():
            return f"suspends agency {statement.agency}: {statement.reason}"
        case s.AgencyReinstated():
            return f"reinstates agency {statement.agency}"
        case s.AuditorAppointed():
            channels = f" to {_listed(statement.channels)}" if statement.channels else ""
            return (
                f"appoints auditor {statement.auditor} ({statement.name}){channels} "
                f"with {_first_keys(statement)}"
            )
        case s.AuditorDismissed():
            return (
                f"dismisses auditor {statement.auditor} from {_listed(statement.channels) or 'all channels'}"
            )
        case _:
            # Two tables, since one function for all kinds would be too long. An empty text means: not of this
            # group.
            return _key_text(statement) or _channel_text(statement)


def _key_text(statement: Statement) -> str:
    match statement:
        case s.KeyAdded():
            # The time is PENDING_US of broker.directory.rules.waits; change both together.
            when = ", in force in 72 hours"
            if not statement.recovery:
                when += ", or at once if the authority signs as well"
            key_id = _key_id(statement.use, statement.public_key)
            return f"adds {statement.use.lower()} key {key_id} to {statement.agency}{when}"
        case s.KeyRetired():
            return (
                f"retires key {statement.key_id.hex()} of {statement.agency}, "
                f"whose successor is {statement.successor.hex()}"
            )
        case s.KeyRevoked():
            return (
                f"revokes key {statement.key_id.hex()} of {statement.agency} "
                f"and what it vouched for since {statement.since}"
            )
        case s.DirectoryClock():
            return f"tells the time: {time_text(statement.header.issued_at)}"
        case s.ServiceKeyAnnounced():
            day = "" if statement.day is None else f" of {day_text(statement.day)}"
            key_id = _key_id(statement.use, statement.public_key)
            return (
                f"announces {statement.use.lower()} key {key_id}{day} of {statement.role} {statement.service}"
            )
        case _:
            return ""


def _channel_text(statement: Statement) -> str:
    match statement:
        case s.ChannelOpened():
            return (
                f"opens {statement.kind.lower()} channel {statement.channel}, number {statement.number}, "
                f"of {_listed(statement.members)}, audited by {_listed(statement.auditors) or 'nobody'}, "
                f"for {_listed(statement.purposes)}, records {_listed(statement.record_types)}, "
                f"kept at most {statement.ceiling_days} days, under {statement.legal_basis}, "
                f"joined by the consent of {_JOINING[statement.joining]}, "
                f"with {'; '.join(map(_mandate, statement.mandates)) or 'no mandates'}{_services(statement)}"
            )
        case s.ChannelClosed():
            return f"closes channel {statement.channel}"
        case s.MemberJoined():
            return f"{statement.agency} joins channel {statement.channel}"
        case s.MemberLeft():
            return f"{statement.agency} leaves channel {statement.channel}"
        case s.ChannelKeysPublished():
            recipients = sorted({seed.recipient for seed in statement.metadata_halves})
            return (
                f"publishes the keys of epoch {statement.epoch} of {statement.channel} "
                f"for {_listed(recipients)}"
            )
        case s.ChannelKeysConfirmed():
            return f"confirms epoch {statement.epoch} of {statement.channel}"
        case s.ChannelKeysComplained():
            return f"complains of epoch {statement.epoch} of {statement.channel}: {statement.detail}"
        case s.EpochGranted():
            seeds = (*statement.metadata_halves, *statement.content_halves, *statement.access_halves)
            recipients = sorted({seed.recipient for seed in seeds})
            return f"grants epoch {statement.epoch} of {statement.channel} to {_listed(recipients)}"
        case _:
            # A kind without its own words must still be seen before it is signed.
            return type(statement).__name__


def _services(statement: s.ChannelOpened) -> str:
    kas = statement.kas
    return "" if kas is None else f", and {kas.k} of the services {_listed(kas.services)} release"


def _first_keys(statement: s.AgencyAdmitted | s.AuditorAppointed) -> str:
    signing = signing_key_id(statement.signing_key).hex()
    return f"signing key {signing} and receiving key {receiving_key_id(statement.receiving_key).hex()}"


def _signing_ids(keys: Sequence[bytes]) -> str:
    return _listed([signing_key_id(key).hex() for key in keys])


def _mandate(mandate: s.Mandate) -> str:
    return f"mandate {mandate.ref} of {mandate.agency} for {_listed(mandate.purposes) or 'nothing'}"


def _key_id(use: s.KeyUse, public: bytes) -> str:
    key_id = signing_key_id(public) if use is s.KeyUse.SIGNING else receiving_key_id(public)
    return key_id.hex()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
