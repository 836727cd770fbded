"""What every check of a value has in common: its arguments, its answer, and how it reports a problem.

A check is a function of three arguments: the value, the list of problems so far, and the circumstances. It
returns the value as the record keeps it. For a wrong value it returns `ABSENT` and appends to the list of
problems, which belongs to the function that started the check. A check never raises for what a value says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from broker.records.words import said

__all__ = ["ABSENT", "Check", "Circumstances", "FieldSchema", "Problem", "wrong"]

Problem: TypeAlias = tuple[str, str]
"""A field's path and what is wrong there; a path that begins with ``$`` counts from the top of the record."""

FieldSchema: TypeAlias = Mapping[str, Any]
"""A field, or a type, as its schema file declares it."""


class _Absent:
    """The type of `ABSENT`."""


ABSENT: Final = _Absent()
"""Stands for a value that is missing or wrong and has been reported already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a rule may look at beside the record itself."""

    terms: Mapping[str, object]
    """The terms by dotted path; a part that is wrong is left out."""
    day: int
    """The day on which the record is issued, counted from 1970-01-01."""


Check: TypeAlias = Callable[[Any, list[Problem], Circumstances], Any]


def wrong(problems: list[Problem], words: str, expected: str, value: object) -> Any:
    """Report a wrong value and return `ABSENT` in its place."""
    # The path is empty: a check does not know where its value lies. broker.records.containers puts the path
    # in front when the check returns.
    problems.append(("", said(words, expected, value)))
    return ABSENT
