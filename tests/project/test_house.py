"""The house holds its shape: arrows as docs/architecture.md draws them, no circles, no heaps."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import broker
import connectors

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"

MAX_MODULES_IN_A_FOLDER = 16
MAX_LINES_OF_A_MODULE = 400
MAX_LINES_OF_A_FUNCTION = 70

DOOR = "broker"
"""The package itself, through which programs come in: it names what they need, and no room uses it."""

ASYNC_SEAM = "broker.access.client"
"""The one module of a pure room that may be async: what callers see of a key access service."""

TWICE: Mapping[str, str] = {
    "channel.py": "the directory's value, and the command group `channel`: a command's file has its name",
}
"""The file names that stand in two rooms, and why each of them may."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the product: its dotted name, its file, and its syntax tree."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The room that the module stands in: a folder of ``broker``, or a file that stands there alone."""
        parts = self.name.split(".")
        if parts[0] == "connectors" or self.name == DOOR:
            return parts[0]
        return parts[1]

    @property
    def is_package(self) -> bool:
        """Tell whether this is the ``__init__`` of a folder."""
        return self.file.name == "__init__.py"


@cache
def modules() -> Mapping[str, Module]:
    """Every module of the installed product, by its dotted name."""
    found: dict[str, Module] = {}
    for package in (broker, connectors):
        assert package.__file__ is not None
        top = Path(package.__file__).parent
        for file in sorted(top.rglob("*.py")):
            parts = file.relative_to(top.parent).with_suffix("").parts
            if parts[1] in {"_schemas", "_examples"}:
                continue
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, file, ast.parse(file.read_text()))
    return found


def imports(module: Module) -> Iterator[tuple[str, str | None]]:
    """Every import of the product in a module: (module, name taken from it), wherever in the file it stands.

    Imports inside functions count, and those for type checkers alone count too: whoever reads a module
    needs the other one to understand it.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.name.split(".")
                up = node.level - 1 if module.is_package else node.level
                base = ".".join([*here[: len(here) - up], *([base] if base else [])])
            for alias in node.names:
                yield base, alias.name


def targets(module: Module) -> Iterator[str]:
    """The modules of the product that a module imports."""
    known = modules()
    for base, name in imports(module):
        inner = f"{base}.{name}"
        if inner in known:
            yield inner
        elif base in known:
            yield base


@cache
def drawn() -> Mapping[str, frozenset[str]]:
    """The arrows of docs/architecture.md: for each room the rooms that it may import, from top to bottom."""
    rows = re.findall(r"^\| `([a-z_]+)/?` \|[^|]*\|([^|]*)\|$", ARCHITECTURE.read_text(), re.MULTILINE)
    return {room: frozenset(re.findall(r"`([a-z_]+)`", allowed)) for room, allowed in rows}


def circle(arrows: Mapping[str, frozenset[str]]) -> list[str] | None:
    """A path that comes back to where it began; None where there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for target in sorted(arrows.get(name, ())):
            found = visit(target)
            if found is not None:
                return found
        path.pop()
        done.add(name)
        return None

    for name in sorted(arrows):
        found = visit(name)
        if found is not None:
            return found
    return None


def test_every_room_is_drawn() -> None:
    """docs/architecture.md has a row for each room, and no row for a room that is not there."""
    assert set(drawn()) == {module.room for module in modules().values()} - {DOOR}


def test_arrows_point_down() -> None:
    """The table is ordered: a room may import only rooms that stand below it."""
    rooms = list(drawn())
    upward = [
        (room, target)
        for place, room in enumerate(rooms)
        for target in drawn()[room]
        if target not in rooms[place + 1 :]
    ]
    assert upward == []


def test_rooms_import_what_the_table_allows_and_no_more() -> None:
    """Each import between rooms is an arrow of the table, and each arrow of the table is used."""
    found: dict[str, set[str]] = {room: set() for room in drawn()}
    for module in modules().values():
        if module.name != DOOR:
            found[module.room] |= {modules()[target].room for target in targets(module)} - {module.room, DOOR}
    assert {room: sorted(used) for room, used in found.items()} == {
        room: sorted(allowed) for room, allowed in drawn().items()
    }


def test_no_room_comes_in_by_the_door() -> None:
    """The package's own names are for programs; a room that used them would need the whole house."""
    users = [module.name for module in modules().values() if DOOR in set(targets(module)) - {module.name}]
    uses = [
        (name, taken)
        for name in users
        for base, taken in imports(modules()[name])
        if base == DOOR and taken in broker.__all__
    ]
    assert uses == []


def test_no_circle_of_files() -> None:
    """No file imports itself through others, imports inside functions and inside a room counted."""
    arrows = {
        name: frozenset(target for target in targets(module) if target not in (name, DOOR))
        for name, module in modules().items()
        if name != DOOR
    }
    assert circle(arrows) is None


@pytest.mark.parametrize(
    ("arrows", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, None),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"a"}}, ["a", "a"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, None),
    ],
)
def test_circles_are_seen(arrows: dict[str, set[str]], found: list[str] | None) -> None:
    """The search finds a circle where there is one, and none where two paths only meet."""
    assert circle({name: frozenset(targets) for name, targets in arrows.items()}) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from broker.log import url", {"broker.log.url"}),
        ("def late():\n    import broker.verify.judge", {"broker.verify.judge"}),
        ("from ..wire import manifest", {"broker.wire.manifest"}),
        ("from . import seal\nimport hashlib", {"broker.crypto.seal"}),
        ("if TYPE_CHECKING:\n    from broker.errors import OpenError", {"broker.errors"}),
    ],
)
def test_imports_are_seen_however_they_are_written(source: str, found: set[str]) -> None:
    """Absolute, relative, late and typing imports are all seen."""
    module = Module("broker.crypto.sign", Path("sign.py"), ast.parse(source))
    assert set(targets(module)) == found


@pytest.mark.parametrize("name", sorted(modules()))
def test_all_names_what_is_public(name: str) -> None:
    """A module says in `__all__` what is public, once each, and all of it exists."""
    module = importlib.import_module(name)
    public: list[str] = getattr(module, "__all__", [])
    has_code = any(not isinstance(node, ast.Expr) for node in modules()[name].tree.body)
    assert not has_code or hasattr(module, "__all__"), "a module without __all__"
    assert len(set(public)) == len(public)
    assert [each for each in public if not hasattr(module, each)] == []


def test_only_public_names_are_imported() -> None:
    """What one module takes from another is in the other's `__all__`."""
    taken = [
        (module.name, base, name)
        for module in modules().values()
        for base, name in imports(module)
        if base in modules() and name is not None and f"{base}.{name}" not in modules()
        if name not in getattr(importlib.import_module(base), "__all__", ())
    ]
    assert taken == []


def test_no_folder_is_a_heap() -> None:
    """A folder holds at most sixteen modules: who opens it sees at once what is in it."""
    counts = Counter(module.file.parent for module in modules().values() if not module.is_package)
    assert {str(folder): count for folder, count in counts.items() if count > MAX_MODULES_IN_A_FOLDER} == {}


def test_modules_and_functions_are_read_in_one_sitting() -> None:
    """A module has at most 400 lines, and a function, its docstring and options included, at most 70."""
    long_modules = [
        (module.name, lines)
        for module in modules().values()
        if (lines := len(module.file.read_text().splitlines())) > MAX_LINES_OF_A_MODULE
    ]
    long_functions = [
        (module.name, node.name, lines)
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_LINES_OF_A_FUNCTION
    ]
    assert (long_modules, long_functions) == ([], [])


def test_a_file_name_stands_once() -> None:
    """A name that stands in two rooms means one thing to its reader, or it is listed with its reason."""
    counts = Counter(module.file.name for module in modules().values() if not module.is_package)
    assert {name for name, count in counts.items() if count > 1} == set(TWICE)


def waits(tree: ast.Module) -> bool:
    """Tell whether a module has anything async in it."""
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(node, kinds) for node in ast.walk(tree))


def test_pure_rooms_never_wait() -> None:
    """What parses, signs, verifies or decides is a plain function of values, in each room drawn as pure."""
    marked = re.findall(r"^\| `([a-z_]+)/?` \|[^|]*\bpure\b[^|]*\|", ARCHITECTURE.read_text(), re.MULTILINE)
    assert {"crypto", "avro", "wire", "records", "directory", "verify", "access"} <= set(marked)
    waiting = [
        module.name
        for module in modules().values()
        if module.room in marked and module.name != ASYNC_SEAM and waits(module.tree)
    ]
    assert waiting == []


def test_each_room_is_drawn_once() -> None:
    """No room is drawn twice."""
    rows = re.findall(r"^\| `([a-z_]+)/?` \|[^|]*\|[^|]*\|$", ARCHITECTURE.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows)) == len(drawn())
