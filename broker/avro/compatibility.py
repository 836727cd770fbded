"""Check that every version of a record type can be read by readers of every other.

``python -m broker.avro.compatibility [FOLDER]`` compares the current ``<base>.avsc`` of each record type and
every ``older/<base>.<n>.avsc``, each with each, and names every problem. It exits with 1 when there is one.
``FOLDER/released.txt`` has one line ``<hex id> <RecordType> <version>`` for each version ever released, so
that a released version which somebody edited is found.

To change a record type: ``--keep <base>`` saves its current version as ``older/<base>.<n>.avsc``; edit
``<base>.avsc``; ``--release`` writes the ids of the current versions into ``released.txt``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.avro.comparison import compare, wrong_defaults
from broker.avro.schema import RecordSchema
from broker.avro.schema_file import load_types, schemas_folder
from broker.errors import UsageError

__all__ = ["RELEASED", "Version", "check_folder", "keep", "main", "release", "versions"]

RELEASED = "released.txt"
_OLDER = re.compile(r"(?P<base>[^.]+)\.(?P<number>[1-9][0-9]*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a record type. ``number`` counts from 1, and the current version has the highest."""

    number: int
    is_current: bool
    schema: RecordSchema


def versions(folder: Path) -> dict[str, list[Version]]:
    """Return the versions of each record type in a folder, oldest first, by the base of their file names.

    Raises UsageError where a number is missing, or a record type has no current version.
    """
    types = load_types(folder / "types")
    found: dict[str, list[Version]] = {}
    numbers = _older_files(folder)
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


def _older_files(folder: Path) -> dict[str, dict[int, Path]]:
    """Return the files of older versions by base and number."""
    numbers: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "older").glob("*.avsc")):
        match = _OLDER.match(path.stem)
        if not match:
            raise UsageError(f"{path}: expected a name like <base>.<n>.avsc")
        numbers.setdefault(match["base"], {})[int(match["number"])] = path
    return numbers


def check_folder(folder: Path) -> list[str]:
    """Return every problem of the record types in a folder: between versions, and with what was released."""
    found = versions(folder)
    problems: list[str] = []
    for base, listed in found.items():
        # Each with each, not only neighbours: compatibility of three versions does not follow from two pairs.
        for older, newer in itertools.combinations(listed, 2):
            between = f"{base} {older.number} and {newer.number}"
            differences = compare(older.schema.schema, newer.schema.schema)
            problems += [f"{between}: {problem}" for problem in differences]
            if older.schema.id == newer.schema.id:
                problems.append(f"{between}: the same schema twice")
        for version in listed:
            wrong = wrong_defaults(version.schema.schema)
            problems += [f"{base} {version.number}: {problem}" for problem in wrong]
    return problems + _check_released(folder, found)


def _check_released(folder: Path, found: dict[str, list[Version]]) -> list[str]:
    released = _read_released(folder)
    problems: list[str] = []
    present: set[tuple[str, int]] = set()
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
    """Append the ids of versions that are not released yet, and return the lines that were appended."""
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
    """Save the current version of a record type, self-contained, before it is changed; return its path."""
    listed = versions(folder).get(base)
    if not listed:
        raise UsageError(f"{folder}: no file {base}.avsc")
    current = listed[-1]
    path = folder / "older" / f"{base}.{current.number}.avsc"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(current.schema.schema, indent=2, ensure_ascii=False) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when all versions understand each other, 1 when not, 2 for wrong usage."""
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
