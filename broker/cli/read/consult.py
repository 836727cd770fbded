"""``consult``: one record, read by one person for one reason, which is logged first."""

from __future__ import annotations

from uuid import UUID

import click

from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_pairs
from broker.cli.read.ground import RECORD_READING, Why, why_options
from broker.cli.read.record_search import Found, LaterAction, Wish, find
from broker.cli.read.subscribe import readable_channel
from broker.errors import Denied, OpenError, UsageError
from broker.session import Profile
from broker.show.meanings import KINDS, reason_meaning, violation_line
from broker.show.record_view import delivered_json, record_rows
from broker.subscribe.consultation import Consultation, consult
from broker.subscribe.delivery import READER_TOO_OLD, Delivered, NotDelivered
from broker.verify.violations import Violation
from broker.wire.access import EntryRef

__all__ = ["command"]

_KAS_TIMEOUT_S = 15.0
"""Seconds for which the service is asked; a person waits for the answer, so they are few."""


@click.command("consult")
@click.option("--channel", required=True, metavar="NAME", help="The channel it was shared in.")
@click.option("--record", "record_id", metavar="ID", help="The record's id: a UUID.")
@click.option("--batch", "batch_id", metavar="HEX", help="Or its batch: 64 hex digits; with --index.")
@click.option("--index", type=click.IntRange(0, 255), metavar="N", help="Its place in the batch, from 0.")
@why_options(RECORD_READING)
@profile_option
@json_option
@asynchronous
async def command(
    channel: str,
    record_id: str | None,
    batch_id: str | None,
    index: int | None,
    why: Why,
    profile: Profile,
    as_json: bool,
) -> int:
    """Read one record, for a reason that is logged first.

    What is not given is asked for at a terminal. Denied, it says why and what to do, and exits 1.

    \b
    Example:
      ftf-broker consult --channel repatriation --record 0192f7a0-5d5e-7c0a-9f0e-6d1f6f4a2a01
      ftf-broker consult --channel repatriation --batch 4f0c…e1 --index 3 --purpose INVESTIGATION \\
        --person officer-17 --role investigator --legal-basis "Treaty, article 7" \\
        --case BV-101/2026 --justification "Identity check at the border"
    """
    wish = _wish(record_id, batch_id, index)
    async with open_session(profile) as session:
        # The record is found before the reason is asked for: nobody types a justification for a record that
        # is not there, and a search reads manifests only, so that there is nothing to log yet.
        place = readable_channel(session, channel)
        found, later = _only(await find(session, place, wish), channel)
        allowed = [purpose for purpose in RECORD_READING if purpose in place.purposes]
        why = why.complete(allowed, channel=channel)
        async with session.key_access() as kas:
            consultation = await consult(
                session.participant,
                kas,
                ground=why.ground(channel),
                batch=found.batch,
                index=found.index,
                receipts=profile.consultations,
                seen=() if found.seen is None else (found.seen,),
                kas_timeout_s=_KAS_TIMEOUT_S,
            )
    match consultation.delivery:
        case Violation() as violation:
            note(f"violation: {violation_line(violation)}", style="red")
            raise OpenError(KINDS[violation.kind], hint="report it; ftf-broker audit replay says more")
        case NotDelivered(reason=reason):
            meaning = reason_meaning(reason)
            if reason == READER_TOO_OLD:
                # This is no denial: the service was not asked, because this program cannot read the version.
                raise UsageError(meaning.text, hint=meaning.advice)
            note(_logged(consultation.entry, "attempt"), style="dim")
            raise Denied(f"{reason}: {meaning.text}", hint=meaning.advice)
        case Delivered() as delivered:
            _show(delivered, later, channel, consultation, as_json=as_json)
    return 0


def _wish(record_id: str | None, batch_id: str | None, index: int | None) -> Wish:
    if (record_id is None) == (batch_id is None) or (batch_id is None) != (index is None):
        raise UsageError("name the record with --record ID, or with --batch HEX and --index N")
    if record_id is not None:
        try:
            return Wish(record_id=UUID(record_id).bytes)
        except ValueError:
            raise UsageError(f"--record is '{record_id[:80]}', expected a UUID") from None
    try:
        batch = bytes.fromhex(batch_id or "")
    except ValueError:
        batch = b""
    if len(batch) != 32:
        raise UsageError(f"--batch is '{(batch_id or '')[:80]}', expected 64 hex digits")
    return Wish(batch_id=batch, index=index or 0)


def _only(found: list[tuple[Found, list[LaterAction]]], channel: str) -> tuple[Found, list[LaterAction]]:
    if not found:
        raise Denied(
            f"there is no such record in channel '{channel}' that you could read",
            hint="check the id and the channel; what was shared before your agency joined is not seen",
        )
    # Any issuer may give its record an id that is in use already. The person must choose, because each
    # reading is logged, and the wrong one would be read.
    if len(found) > 1:
        places = [f"--batch {record.batch.batch_id.hex()} --index {record.index}" for record, _ in found[:4]]
        raise UsageError(f"{len(found)} records have this id", hint=f"choose one: {', '.join(places)}")
    return found[0]


def _show(
    item: Delivered, later: list[LaterAction], channel: str, consultation: Consultation, *, as_json: bool
) -> None:
    entry = consultation.entry
    if as_json:
        value = delivered_json(item, channel)
        value["later_actions"] = [
            {"action": action.action, "batch_id": action.batch_id.hex(), "index": action.index}
            for action in later
        ]
        value["entry"] = entry and {
            "batch_id": entry.batch_id.hex(),
            "partition": entry.partition,
            "offset": entry.offset,
            "index": entry.index,
        }
        print_json(value)
    else:
        acted = [
            (
                "attention",
                f"later {action.action} at {action.place}: {action.batch_id.hex()} index {action.index}",
            )
            for action in later
        ]
        pairs = record_rows(item)
        # Later actions stand near the top, so that nobody acts on a record that its originator has corrected
        # or withdrawn.
        print_pairs(item.record.record_type, [*pairs[:2], *acted, *pairs[2:]])
    note(_logged(entry, "reading"), style="dim")


def _logged(entry: EntryRef | None, what: str) -> str:
    if entry is None:
        return f"your {what} is counted in the access log"
    return f"your {what} was logged as access/{entry.partition} at offset {entry.offset}, index {entry.index}"
