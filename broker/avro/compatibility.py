"""Check that every version of a record type can be read by readers of every other.

Records stay in the logs for years and agencies update on different days, so a change must work in both
directions: a newer reader on older records and an older reader on newer ones (full compatibility).

``python -m broker.avro.compatibility [FOLDER]`` compares the current ``<base>.avsc`` of each record
type and every ``older/<base>.<n>.avsc``, each with each, and names every problem; it exits 1 when there
is one. ``FOLDER/released.txt`` has one line ``<hex id> <RecordType> <version>`` for each version ever
released, so that an edited one is found.

To change a record type: ``--keep <base>`` saves its current version as ``older/<base>.<n>.avsc``;
edit ``<base>.avsc``; ``--release`` writes the ids of the current versions into ``released.txt``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.avro.projection import default_of
from broker.avro.schema import RecordSchema, Schema, load_types, schemas_folder
from broker.avro.shape import Array, Enum, Fixed, Record, Shape, Union, kind_of, parse, tag_of
from broker.errors import FormatError, UsageError

__all__ = ["RELEASED", "Version", "check", "check_folder", "keep", "main", "release", "versions"]

RELEASED = "released.txt"
_OLDER = re.compile(r"(?P<base>[^.]+)\.(?P<number>[1-9][0-9]*)\Z")


def check(older: Schema, newer: Schema) -> list[str]:
    """Every reason why readers and writers of the two versions cannot understand each other."""
    problems = list(_compare(parse(older), parse(newer), ""))
    if isinstance(older, dict) and isinstance(newer, dict):
        before, after = older.get("topic"), newer.get("topic")
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
        elif name in after and not after[name].has_default:
            yield f"{at}: added without a default"
        elif name in before and not before[name].has_default:
            yield f"{at}: removed, and had no default"


def _compare_enums(older: Enum, newer: Enum, at: str) -> Iterator[str]:
    # Who meets a symbol that it does not know needs a default of its own.
    for symbol in newer.symbols:
        if symbol not in older.symbols and older.default is None:
            yield f"{at}: symbol {symbol} added, and the older enum has no default"
    for symbol in older.symbols:
        if symbol not in newer.symbols and newer.default is None:
            yield f"{at}: symbol {symbol} removed, and the newer enum has no default"


def _compare_unions(older: Union, newer: Union, path: str) -> Iterator[str]:
    before = {tag_of(branch): branch for branch in older.branches}
    after = {tag_of(branch): branch for branch in newer.branches}
    for tag in before | after:
        if tag not in after:
            yield f"{path or 'schema'}: union branch {tag} removed"
        elif tag not in before:
            yield f"{path or 'schema'}: union branch {tag} added"
        else:
            yield from _compare(before[tag], after[tag], path)


def _bad_defaults(shape: Shape, path: str) -> Iterator[str]:
    match shape:
        case Record(fields=fields):
            for field in fields:
                at = f"{path}.{field.name}" if path else field.name
                if field.has_default:
                    try:
                        default_of(field, at)
                    except FormatError as error:
                        yield error.message
                yield from _bad_defaults(field.shape, at)
        case Array(items=items):
            yield from _bad_defaults(items, f"{path}[]")
        case Union(branches=branches):
            for branch in branches:
                yield from _bad_defaults(branch, path)


# A folder of record types. -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a record type; ``number`` counts from 1, the current one has the highest."""

    number: int
    is_current: bool
    schema: RecordSchema


def versions(folder: Path) -> dict[str, list[Version]]:
    """The versions of each record type in a folder, oldest first, by the base of their file names."""
    types = load_types(folder / "types")
    found: dict[str, list[Version]] = {}
    numbers: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "older").glob("*.avsc")):
        match = _OLDER.match(path.stem)
        if not match:
            raise UsageError(f"{path}: expected a name like <base>.<n>.avsc")
        numbers.setdefault(match["base"], {})[int(match["number"])] = path
    for path in sorted(folder.glob("*.avsc")):
        older = numbers.pop(path.stem, {})
        if sorted(older) != list(range(1, len(older) + 1)):
            raise UsageError(f"{path}: older versions are numbered {sorted(older)}, expected from 1 on")
        found[path.stem] = [
            Version(number=number, is_current=False, schema=RecordSchema.from_file(older[number], {}))
            for number in sorted(older)
        ]
        current = RecordSchema.from_file(path, types)
        found[path.stem].append(Version(number=len(older) + 1, is_current=True, schema=current))
    for base in numbers:
        raise UsageError(f"{folder / 'older'}: {base!r} has no current version")
    if not found:
        raise UsageError(f"{folder}: no record types")
    return found


def check_folder(folder: Path) -> list[str]:
    """Every problem of the record types in a folder: between versions, and with what was released."""
    found = versions(folder)
    problems: list[str] = []
    for base, listed in found.items():
        for one, other in itertools.combinations(listed, 2):
            between = f"{base} {one.number} and {other.number}"
            problems += [f"{between}: {problem}" for problem in check(one.schema.schema, other.schema.schema)]
            if one.schema.id == other.schema.id:
                problems.append(f"{between}: the same schema twice")
        for version in listed:
            bad = _bad_defaults(parse(version.schema.schema), "")
            problems += [f"{base} {version.number}: {problem}" for problem in bad]
    return problems + _check_released(folder, found)


def _check_released(folder: Path, found: dict[str, list[Version]]) -> list[str]:
    released = _read_released(folder)
    problems = []
    present = set()
    for version in itertools.chain.from_iterable(found.values()):
        key = (version.schema.record_type, version.number)
        present.add(key)
        if key not in released:
            problems.append(f"{version.schema.path}: version {version.number} is not released")
        elif released[key] != version.schema.id.hex():
            problems.append(f"{version.schema.path}: edited since version {version.number} was released")
    gone = sorted(released.keys() - present)
    return problems + [f"{name} version {number}: released, and now missing" for name, number in gone]


def _read_released(folder: Path) -> dict[tuple[str, int], str]:
    path = folder / RELEASED
    if not path.exists():
        return {}
    released: dict[tuple[str, int], str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match line.split():
            case [id, name, version] if re.fullmatch("[0-9a-f]{64}", id) and version.isdecimal():
                if (name, int(version)) in released:
                    raise UsageError(f"{path}: line {number}: {name} {version} is listed twice")
                released[name, int(version)] = id
            case _:
                raise UsageError(f"{path}: line {number}: expected <hex id> <RecordType> <version>")
    return released


def release(folder: Path) -> list[str]:
    """Append the ids of versions not released so far; the lines that were appended."""
    released = _read_released(folder)
    known = set(released.values())
    lines = []
    for version in itertools.chain.from_iterable(versions(folder).values()):
        if (version.schema.record_type, version.number) in released:
            continue
        if version.schema.id.hex() in known:
            raise UsageError(f"{version.schema.path}: the same schema as a version released before")
        lines.append(f"{version.schema.id.hex()} {version.schema.record_type} {version.number}")
    with (folder / RELEASED).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return lines


def keep(folder: Path, base: str) -> Path:
    """Save the current version of a record type, self-contained, before it is changed; its new path."""
    listed = versions(folder).get(base)
    if not listed:
        raise UsageError(f"{folder}: no file {base}.avsc")
    current = listed[-1]
    path = folder / "older" / f"{base}.{current.number}.avsc"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(current.schema.schema, indent=2, ensure_ascii=False) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 when all versions understand each other, 1 when not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m broker.avro.compatibility")
    parser.add_argument("folder", nargs="?", type=Path, help="default: the record types of the broker")
    parser.add_argument("--release", action="store_true", help=f"append new ids to {RELEASED}, then check")
    parser.add_argument("--keep", metavar="BASE", help="save the current version before it is changed")
    options = parser.parse_args(arguments)
    try:
        folder: Path = options.folder or schemas_folder() / "records"
        if options.keep:
            print(keep(folder, options.keep))
            return 0
        if options.release:
            print(*release(folder), sep="\n")
        problems = check_folder(folder)
    except UsageError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    print(*(problems or ["all versions understand each other"]), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
