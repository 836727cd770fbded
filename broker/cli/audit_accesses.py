"""``audit accesses``: list who read what, when, why and on what legal basis; asking is logged too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click

from broker.audit.accesses import Access, Disclosure, accesses
from broker.cli.context import asynchronous, json_option, profile_option
from broker.cli.opening import open_session
from broker.cli.output import note, print_json, print_line, print_pairs
from broker.cli.read.ground import LOG_READING, Why, why_options
from broker.errors import Denied, UsageError
from broker.log import Log
from broker.log.protocol import physical
from broker.session import Profile, Role, Session
from broker.show.meanings import reason_meaning
from broker.show.text import counted, instant_json, printable, time_text
from broker.wire.manifest import LogItem, Reason

__all__ = ["command"]

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command("accesses")
@click.option("--record", "record_id", metavar="ID", help="Who read this record: a UUID.")
@click.option("--agency", metavar="NAME", help="What this agency read.")
@click.option("--from", "since", type=_DAY, metavar="DATE", help="From this day on, in UTC.")
@click.option("--to", "until", type=_DAY, metavar="DATE", help="Up to this day, itself included.")
@click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="Only this channel; may be repeated."
)
@why_options(LOG_READING)
@profile_option
@json_option
@asynchronous
async def command(
    record_id: str | None,
    agency: str | None,
    since: datetime | None,
    until: datetime | None,
    channels: tuple[str, ...],
    why: Why,
    profile: Profile,
    as_json: bool,
) -> int:
    """List who read what, when, why and on what legal basis.

    The law allows it for four purposes (LED art. 25). An auditor of the channel is shown every access,
    which is read from the log itself. An agency that is a member is shown the accesses to what it shared,
    and its own. Person, case and justification come from the key access service, and that reading is
    logged too.

    \b
    Example:
      ftf-broker audit accesses --record 0192f7a0-5d5e-7c0a-9f0e-6d1f6f4a2a01 --purpose LAWFULNESS \\
        --person auditor-3 --role auditor --legal-basis "LED art. 25" --justification "Yearly check"
      ftf-broker audit accesses --agency XBB:border --from 2026-11-01 --to 2026-11-30
    """
    if record_id is None and agency is None and since is None and until is None:
        raise UsageError(
            "no option says which accesses to list",
            hint="name --record, --agency, or days with --from and --to",
        )
    if since is not None and until is not None and until < since:
        raise UsageError(f"--to {until:%Y-%m-%d} lies before --from {since:%Y-%m-%d}")
    record = None if record_id is None else _record(record_id)
    async with open_session(profile) as session:
        # The question is checked before the person is asked for reasons: asking for the details is logged,
        # and a mistake in an option should cost neither.
        asked = _check(session, agency, channels)
        why = why.complete(LOG_READING, channel="the access log")
        found = []
        async with session.key_access() as kas:
            try:
                async for access in accesses(
                    session.participant,
                    kas,
                    channels=channels or None,
                    record_id=record,
                    agency=agency,
                    since=None if since is None else _micros(since),
                    # The day of --to is included, and ``until`` is exclusive.
                    until=None if until is None else _micros(until + timedelta(days=1)),
                    purpose=why.known_purpose,
                    details=why.details,
                ):
                    found.append(access)
                    # People see each access as it is found, because a search over years takes long. JSON is
                    # one value and is printed at the end.
                    if not as_json:
                        _print(access, session.log)
            except Denied as error:
                meaning = reason_meaning(error.reason)
                raise Denied(f"{error.reason}: {meaning.text}", hint=meaning.advice) from None
        if as_json:
            print_json({"accesses": [_to_json(access, session.log) for access in found]})
        is_audit = all(profile.name in session.directory.channels[name].auditors for name in asked)
    logged = "reading their details was logged too" if found else "so nothing was read, and nothing logged"
    # An auditor asks the service only for entries that it has found with its own keys. A member asks for
    # whole ranges, so its question was logged even where nothing concerns it.
    if not found and not is_audit:
        logged = "asking was logged too"
    distinct = len({access.request_digest for access in found})
    note(f"{counted(distinct, 'access', 'accesses')} found; {logged}")
    return 0


def _record(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        raise UsageError(f"--record is '{text[:80]}', expected a UUID") from None


def _micros(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _check(session: Session, agency: str | None, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the channels that will be asked for.

    A question that cannot be answered is refused here, before anything is asked and logged.
    """
    directory = session.directory
    name = session.profile.name
    is_agency = session.profile.role is Role.AGENCY
    ours = sorted(
        channel.name for channel in directory.channels.values() if name in channel.auditors | channel.members
    )
    hint = f"you {'are a member of' if is_agency else 'audit'}: {', '.join(ours) or 'none'}"
    # An unknown channel comes first: the answer to it is no denial, and the hint lists the names to choose
    # from.
    for wanted in channels:
        if directory.channel(wanted) is None:
            raise UsageError(f"there is no channel '{wanted}'", hint=hint)
    if not ours or not set(channels) <= set(ours):
        reason = Reason.NOT_MEMBER if is_agency else Reason.NOT_AUDITOR
        meaning = reason_meaning(reason)
        raise Denied(f"{reason}: {meaning.text}", hint=f"{meaning.advice}; {hint}")
    if agency is not None and agency not in directory.parties:
        raise UsageError(f"there is no agency '{agency}'", hint="see them all: ftf-broker agency list")
    return channels or tuple(ours)


# what is shown


def _print(access: Access, log: Log) -> None:
    request = access.request
    details = access.details
    place = f"{physical(log, 'access')}/{access.partition}@{access.offset}#{access.index}"
    pairs = [("when", time_text(access.at)), ("who", request.issuer)]
    if details is None:
        pairs.append(
            ("details", "none: the month's key of the access log is erased, or the service left them out")
        )
    else:
        reader = f"{details.person} ({details.role})" if details.person else details.role
        pairs += [
            ("person", printable(reader)),
            ("legal basis", printable(details.legal_basis)),
            ("case", printable(details.case_reference or "none")),
            ("why", printable(details.justification)),
        ]
        if details.recipients:
            pairs.append(("passed on to", ", ".join(details.recipients)))
    under = f", mandate {printable(request.mandate_ref)}" if request.mandate_ref else ""
    pairs += [("purpose", f"{request.purpose}, {request.operation}{under}")]
    pairs += [("what", said) for said in _said(access, log)]
    pairs += [("channel", access.channel), ("logged as", place)]
    if access.is_repeat:
        pairs.append(("repeat", "the same request was logged before, and decided otherwise"))
    print_pairs("access", pairs)
    print_line("")


def _said(access: Access, log: Log) -> Iterator[str]:
    for disclosed in access.disclosures:
        item = disclosed.item
        why = f" ({disclosed.reason})" if disclosed.reason else ""
        if isinstance(item, LogItem):
            what = f"{physical(log, 'access')}/{access.partition} from {item.start} to {item.end}"
        else:
            what = f"{physical(log, item.topic)}/{access.partition}@{item.offset} {_indexes(disclosed)}"
        yield f"{disclosed.verdict}{why}: {what}"


def _indexes(disclosed: Disclosure) -> str:
    shown = ", ".join(str(index) for index in disclosed.indexes[:16])
    more = len(disclosed.indexes) - 16
    return f"index {shown}" + (f" and {more} more" if more > 0 else "")


def _to_json(access: Access, log: Log) -> dict[str, object]:
    request = access.request
    details = access.details
    return {
        "channel": access.channel,
        "topic": physical(log, "access"),
        "partition": access.partition,
        "offset": access.offset,
        "index": access.index,
        "at": instant_json(access.at),
        "agency": request.issuer,
        "operation": request.operation.value,
        "purpose": request.purpose.value,
        "mandate": request.mandate_ref,
        # Where the details are erased, each of these fields is null.
        "person": details and details.person,
        "role": details and details.role,
        "legal_basis": details and details.legal_basis,
        "case_reference": details and details.case_reference,
        "justification": details and details.justification,
        "recipients": details and list(details.recipients),
        "request": access.request_digest.hex(),
        "repeat": access.is_repeat,
        "objects": [_object(disclosed, log) for disclosed in access.disclosures],
    }


def _object(disclosed: Disclosure, log: Log) -> dict[str, object]:
    outcome: dict[str, object] = {"outcome": disclosed.verdict.value, "reason": disclosed.reason}
    item = disclosed.item
    if isinstance(item, LogItem):
        return {"kind": "LOG", "from": item.start, "to": item.end} | outcome
    return {
        "kind": "RECORD",
        "topic": physical(log, item.topic),
        "offset": item.offset,
        "batch_id": item.batch_id.hex(),
        "indexes": list(disclosed.indexes),
    } | outcome
