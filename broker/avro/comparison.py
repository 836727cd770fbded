"""Compare two versions of a schema: can readers and writers of each understand the other?

Records stay in the logs for years and agencies update on different days, so a change must work in both
directions: a newer reader on older records, and an older reader on newer records. This is often called full
compatibility; the rules are those of Apache Avro 1.11, "Schema Resolution". A change of type is always a
problem: an int can be read as a long, but not the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.avro.projection import default_of
from broker.avro.shape import Array, Enum, Fixed, Record, Schema, Shape, Union, kind_of, parse, tag_of
from broker.errors import FormatError

__all__ = ["compare", "wrong_defaults"]


def compare(older: Schema, newer: Schema) -> list[str]:
    """Return every reason why readers and writers of the two versions cannot understand each other."""
    problems = list(_compare(parse(older), parse(newer), ""))
    if isinstance(older, dict) and isinstance(newer, dict):
        before = older.get("topic")
        after = newer.get("topic")
        if before != after:
            problems.append(f"topic changed from {before!r} to {after!r}")
    return problems


def _compare(older: Shape, newer: Shape, path: str) -> Iterator[str]:
    at = path or "schema"
    match older, newer:
        case Record(), Record():
            yield from _renamed(older, newer, at)
            yield from _compare_records(older, newer, path)
        case Enum(), Enum():
            yield from _renamed(older, newer, at)
            yield from _compare_enums(older, newer, at)
        case Fixed(), Fixed():
            yield from _renamed(older, newer, at)
            if older.size != newer.size:
                yield f"{at}: size changed from {older.size} to {newer.size}"
        case Array(), Array():
            yield from _compare(older.items, newer.items, f"{path}[]")
        case Union(), Union():
            yield from _compare_unions(older, newer, path)
        case _ if kind_of(older) != kind_of(newer):
            yield f"{at}: type changed from {tag_of(older)} to {tag_of(newer)}"


def _renamed(older: Shape, newer: Shape, at: str) -> Iterator[str]:
    if tag_of(older) != tag_of(newer):
        yield f"{at}: renamed from {tag_of(older)} to {tag_of(newer)}"


def _compare_records(older: Record, newer: Record, path: str) -> Iterator[str]:
    before = {field.name: field for field in older.fields}
    after = {field.name: field for field in newer.fields}
    for name in before | after:
        at = f"{path}.{name}" if path else name
        if name in before and name in after:
            yield from _compare(before[name].shape, after[name].shape, at)
        # A reader fills a field that was not written with the default of its own schema.
        elif name in after and not after[name].has_default:
            yield f"{at}: added without a default"
        elif name in before and not before[name].has_default:
            yield f"{at}: removed, and had no default"


def _compare_enums(older: Enum, newer: Enum, at: str) -> Iterator[str]:
    # A reader that meets an unknown symbol takes the default of its own enum.
    for symbol in newer.symbols:
        if symbol not in older.symbols and older.default is None:
            yield f"{at}: symbol {symbol} added, and the older enum has no default"
    for symbol in older.symbols:
        if symbol not in newer.symbols and newer.default is None:
            yield f"{at}: symbol {symbol} removed, and the newer enum has no default"


def _compare_unions(older: Union, newer: Union, path: str) -> Iterator[str]:
    before = {tag_of(branch): branch for branch in older.branches}
    after = {tag_of(branch): branch for branch in newer.branches}
    # A value is of one branch, and a reader without that branch cannot read it at all.
    for tag in before | after:
        if tag not in after:
            yield f"{path or 'schema'}: union branch {tag} removed"
        elif tag not in before:
            yield f"{path or 'schema'}: union branch {tag} added"
        else:
            yield from _compare(before[tag], after[tag], path)


def wrong_defaults(schema: Schema) -> list[str]:
    """Return a problem for each default of the schema that does not fit its field."""
    return list(_wrong_defaults(parse(schema), ""))


def _wrong_defaults(shape: Shape, path: str) -> Iterator[str]:
    match shape:
        case Record(fields=fields):
            for field in fields:
                at = f"{path}.{field.name}" if path else field.name
                if field.has_default:
                    try:
                        default_of(field, at)
                    except FormatError as error:
                        yield error.message
                yield from _wrong_defaults(field.shape, at)
        case Array(items=items):
            yield from _wrong_defaults(items, f"{path}[]")
        case Union(branches=branches):
            for branch in branches:
                yield from _wrong_defaults(branch, path)
