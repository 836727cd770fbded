"""The ground of a reading: who reads, why and on what legal basis, by options or by questions.

The law demands that each reading is logged with its reason (LED art. 25). We log it before anything is read,
so the reason is asked for first.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from broker.access.requests import new_details
from broker.errors import UsageError
from broker.show.meanings import PURPOSES
from broker.show.text import printable
from broker.subscribe.asking import Ground
from broker.wire.access import AccessDetails
from broker.wire.manifest import Operation
from broker.wire.terms import LOG_PURPOSES, Purpose

__all__ = ["LOG_READING", "RECORD_READING", "Why", "why_options"]

T = TypeVar("T")

RECORD_READING: tuple[Purpose, ...] = tuple(purpose for purpose in Purpose if purpose not in LOG_PURPOSES)
"""The purposes for which records are read."""
LOG_READING: tuple[Purpose, ...] = tuple(purpose for purpose in Purpose if purpose in LOG_PURPOSES)
"""The purposes for which the access log is read (LED art. 25(2))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What the options said about who reads and why; a part that was not given is None."""

    purpose: Purpose | None = None
    mandate: str | None = None
    person: str | None = None
    role: str | None = None
    legal_basis: str | None = None
    case: str | None = None
    justification: str | None = None

    def complete(self, purposes: Sequence[Purpose], *, channel: str) -> Why:
        """Ask at the terminal for every part that is missing, and return the whole.

        ``purposes`` are those that may be chosen. Without a terminal it raises UsageError, which names
        every option that is missing.
        """
        if self.mandate is not None and self.person is not None:
            raise UsageError(
                "--mandate and --person exclude each other",
                hint="a system reads under a mandate (DISCLOSURE), a person consults (CONSULTATION)",
            )
        missing = self._missing()
        if missing and not _can_ask():
            raise UsageError(
                f"options that say who reads and why are missing: {', '.join(missing)}",
                hint="every reading is logged with its reason; at a terminal you are asked",
            )
        # The case reference may be missing, so it is asked for only where something else is missing too.
        return self._asked(purposes, channel) if missing else self._checked()

    def ground(self, channel: str) -> Ground:
        """Return the ground on which the key access service is asked; no part may be missing."""
        # A text that the service would refuse is refused here, before anything is read.
        self.details()
        return Ground(
            channel=channel,
            purpose=self.known_purpose,
            operation=self.operation,
            details=self.details,
            mandate_ref=self.mandate,
        )

    @property
    def operation(self) -> Operation:
        """DISCLOSURE for a system under its mandate, CONSULTATION for a person."""
        return Operation.CONSULTATION if self.mandate is None else Operation.DISCLOSURE

    @property
    def known_purpose(self) -> Purpose:
        """The purpose. Raises UsageError where none was given."""
        if self.purpose is None:
            raise UsageError("--purpose is missing")
        return self.purpose

    def details(self) -> AccessDetails:
        """Make the details of one access, with a fresh blind."""
        return new_details(
            person=self.person,
            role=self.role or "",
            legal_basis=self.legal_basis or "",
            case_reference=self.case,
            justification=self.justification or "",
        )

    def _missing(self) -> list[str]:
        named = {
            "--purpose": self.purpose,
            "--person": self.person or self.mandate,
            "--role": self.role,
            "--legal-basis": self.legal_basis,
            "--justification": self.justification,
        }
        return [name for name, value in named.items() if value is None]

    def _checked(self) -> Why:
        self.details()
        return self

    def _asked(self, purposes: Sequence[Purpose], channel: str) -> Why:
        purpose = self.purpose or _choose(purposes, channel)
        said = replace(self, purpose=purpose)
        if said.mandate is None and said.person is None:
            said = replace(said, person=_ask("Person (your agency's own pseudonym of the reader)"))
        said = replace(
            said,
            role=said.role or _ask("Role"),
            legal_basis=said.legal_basis or _ask("Legal basis"),
            case=said.case if said.case is not None else _ask("Case reference (may be empty)", "") or None,
            justification=said.justification or _ask("Justification (at most 500 characters)"),
        )
        return said._checked()


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _choose(purposes: Sequence[Purpose], channel: str) -> Purpose:
    # The questions go to stderr, because stdout may be a pipe that carries records.
    click.echo(f"Every reading in {printable(channel)} is logged. For what purpose do you read?", err=True)
    for number, purpose in enumerate(purposes, 1):
        click.echo(f"  {number}  {purpose:<20} {PURPOSES[purpose]}", err=True)
    known = {name: purpose for i, purpose in enumerate(purposes, 1) for name in (str(i), purpose.value)}
    answer: str = click.prompt(
        "Purpose", type=click.Choice(list(known), case_sensitive=False), show_choices=False, err=True
    )
    return known[answer]


def _ask(question: str, default: str | None = None) -> str:
    answer: str = click.prompt(question, default=default, show_default=False, err=True)
    return answer.strip()


def why_options(
    purposes: Sequence[Purpose], *, mandate: bool = False
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options that say who reads and why; it receives them as ``why``."""
    names = [purpose.value for purpose in purposes]

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        @click.option(
            "--purpose",
            type=click.Choice(names),
            metavar="PURPOSE",
            help=f"The purpose of the reading: {', '.join(names[:-1])} or {names[-1]}.",
        )
        @click.option(
            "--person",
            envvar="FTF_PERSON",
            metavar="PSEUDONYM",
            help="The person who reads, by your agency's own pseudonym. Or FTF_PERSON.",
        )
        @click.option("--role", envvar="FTF_ROLE", metavar="TEXT", help="The reader's role. Or FTF_ROLE.")
        @click.option("--legal-basis", metavar="TEXT", help="The law that allows it.")
        @click.option("--case", metavar="REF", help="The case for which it is read.")
        @click.option("--justification", metavar="TEXT", help="Why, in at most 500 characters.")
        @functools.wraps(command)
        def with_why(*args: Any, **kwargs: Any) -> T:
            purpose = kwargs.pop("purpose")
            said = {
                name: kwargs.pop(name, None)
                for name in ("mandate", "person", "role", "legal_basis", "case", "justification")
            }
            # A person who is named in both ways by hand is told so; see Why.complete.
            if said["mandate"] is not None and _is_from_environment("person"):
                # FTF_PERSON was set for other commands: a system reads under its mandate, and names no
                # person.
                said["person"] = None
            why = Why(purpose=None if purpose is None else Purpose(purpose), **_without_blanks(said))
            return command(*args, why=why, **kwargs)

        if not mandate:
            return with_why
        return click.option(
            "--mandate",
            metavar="REF",
            help="The standing mandate under which a system reads. Without it a person consults.",
        )(with_why)

    return decorate


def _is_from_environment(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _without_blanks(said: dict[str, str | None]) -> dict[str, str | None]:
    # A text of blanks would pass for an answer, and the log would hold a reading without a reason.
    return {name: text.strip() or None if text is not None else None for name, text in said.items()}
