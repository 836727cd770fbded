"""The project keeps its own rules: versions, public names, the lock, the wheel, and the house's arrows."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker

ROOT = Path(__file__).parents[2]
BROKER = Path(broker.__file__).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# From left to right, as docs/architecture.md draws it: a layer may import those to its right only.
HOUSE: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"show", "connectors", "services"}),
    frozenset({"session"}),
    frozenset({"publish", "subscribe", "audit"}),
    frozenset({"access"}),
    frozenset({"participant"}),
    frozenset({"verify"}),
    frozenset({"directory", "log", "records"}),
    frozenset({"wire"}),
    frozenset({"avro", "crypto"}),
    frozenset({"clock", "files", "logger"}),
    frozenset({"errors"}),
)

PURE = frozenset({"avro", "wire", "records", "crypto", "directory", "verify"})


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the installed broker: its dotted name below `broker`, and its file."""
    for file in sorted(BROKER.rglob("*.py")):
        parts = file.relative_to(BROKER).with_suffix("").parts
        if parts[0] in {"_schemas", "_examples"}:
            continue
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imported(name: str, tree: ast.Module, *, is_package: bool) -> Iterator[str]:
    """Every name below `broker` that a module imports, wherever in the module it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["broker", *name.split(".")] if name else ["broker"]
                up = node.level - 1 if is_package else node.level
                base = ".".join([*here[: len(here) - up], *([base] if base else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (target.removeprefix("broker.") for target in found if target.startswith("broker."))


def rank(layer: str) -> int | None:
    """How far to the right a layer stands; None for a name that the house does not have."""
    return next((place for place, layers in enumerate(HOUSE) if layer in layers), None)


def objection(importer: str, target: str) -> str | None:
    """Why `importer` may not import `target` (both dotted, below `broker`), or None when it may."""
    here, there = importer.partition(".")[0], target.partition(".")[0]
    if here == there or not here:
        return None
    left, right = rank(here), rank(there)
    if left is None or right is None:
        return f"{importer} imports {target}: not in the house, give it its place in HOUSE"
    if left < right:
        return None
    return f"{importer} imports {target}: {'a neighbour' if left == right else 'against the arrow'}"


def waits(tree: ast.Module) -> bool:
    """Whether a module has anything async in it."""
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(node, kinds) for node in ast.walk(tree))


def is_editable() -> bool:
    """Whether the source tree is installed instead of a wheel (`make dev`)."""
    said = importlib.metadata.distribution("ftf-broker").read_text("direct_url.json")
    return bool(said and json.loads(said).get("dir_info", {}).get("editable"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The names of the files in a wheel built now, without the network."""
    where = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(where)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = where.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return frozenset(archive.namelist())


def test_installed_version_is_the_one_in_pyproject() -> None:
    """The installed broker has the version that pyproject.toml names."""
    assert importlib.metadata.version("ftf-broker") == PYPROJECT["project"]["version"]


def test_changelog_speaks_of_this_version() -> None:
    """The changelog has a section for the version in pyproject.toml."""
    assert f"## [{PYPROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_what_is_tested_is_the_wheel() -> None:
    """Without `make dev` the broker under test comes from site-packages, not from the source tree."""
    if is_editable():
        pytest.skip("the source tree is installed (make dev)")
    assert Path(sysconfig.get_path("purelib")) in BROKER.parents


def test_wheel_carries_schemas_and_examples(wheel: frozenset[str]) -> None:
    """Every file of schemas/ and examples/ is in the wheel, so that it works away from its source."""
    files = [
        file for folder in ("schemas", "examples") for file in (ROOT / folder).rglob("*") if file.is_file()
    ]
    names = {file.relative_to(ROOT).as_posix() for file in files if not file.name.startswith(".")}
    assert any(name.startswith("schemas/records/") for name in names)
    assert any(name.startswith("examples/") for name in names)
    assert {f"broker/_{name}" for name in names} <= wheel


def test_wheel_carries_the_marker_of_types_and_the_licence(wheel: frozenset[str]) -> None:
    """Who installs the wheel gets its types checked, and its licence."""
    version = PYPROJECT["project"]["version"]
    assert {"broker/py.typed", f"ftf_broker-{version}.dist-info/licenses/LICENSE"} <= wheel


def test_wheel_holds_nothing_but_the_broker(wheel: frozenset[str]) -> None:
    """Tests, benchmarks and tools stay out of the wheel."""
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {
        "broker",
        "connectors",
        "ftf_broker",
    }


@pytest.mark.parametrize("name", [name for name, _ in modules()])
def test_all_names_what_exists(name: str) -> None:
    """Every public module says in `__all__` what is public, once each, and all of it exists."""
    module = importlib.import_module(f"broker.{name}" if name else "broker")
    assert module.__file__
    body = ast.parse(Path(module.__file__).read_text()).body
    is_private = any(part.startswith("_") for part in name.split("."))
    is_empty = all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
    public: list[str] | None = getattr(module, "__all__", None)
    if public is None:
        assert is_private or is_empty, "a public module without __all__"
        return
    assert len(set(public)) == len(public)
    assert [each for each in public if not hasattr(module, each)] == []


def test_arrows_of_the_house_hold() -> None:
    """No module imports one to its left, nor a neighbour."""
    objections = {
        said
        for name, file in modules()
        for target in imported(name, ast.parse(file.read_text()), is_package=file.name == "__init__.py")
        if (said := objection(name, target))
    }
    assert sorted(objections) == []


@pytest.mark.parametrize(
    ("importer", "source", "objected"),
    [
        ("crypto.sign", "from broker.log import url", "log.url: against the arrow"),
        ("crypto.sign", "from broker import cli", "cli: against the arrow"),
        ("crypto.sign", "from ..wire import batch", "wire.batch: against the arrow"),
        ("log.url", "def f():\n import broker.verify.batch", "verify.batch: against the arrow"),
        ("publish.publisher", "from broker.audit import replay", "audit.replay: a neighbour"),
        ("access.answers", "import broker.publish.publisher", "publish.publisher: against the arrow"),
        ("audit.replay", "from broker.misc import x", "misc.x: not in the house, give it its place in HOUSE"),
        ("publish.publisher", "from broker.access.client import AccessClient", None),
        ("audit.replay", "from broker.access.policy import decide", None),
        ("crypto.sign", "from . import seal\nfrom broker.errors import OpenError\nimport hashlib", None),
    ],
)
def test_arrows_are_seen(importer: str, source: str, objected: str | None) -> None:
    """The check of the arrows sees imports however they are written, and lets through what is allowed."""
    found = [
        objection(importer, target) for target in imported(importer, ast.parse(source), is_package=False)
    ]
    assert [said for said in found if said] == ([f"{importer} imports {objected}"] if objected else [])


def test_pure_packages_never_wait() -> None:
    """What parses, signs, verifies or folds the directory is a plain function of values."""
    pure = [(name, file) for name, file in modules() if name.partition(".")[0] in PURE]
    assert pure
    assert [name for name, file in pure if waits(ast.parse(file.read_text()))] == []


def test_lock_and_settings_name_no_registry() -> None:
    """Where packages come from is the business of whoever installs: no file of ours names an address."""
    settings = ["pyproject.toml", "Makefile", ".ci/run", ".pre-commit-config.yaml"]
    files = [ROOT / name for name in settings] + sorted((ROOT / "requirements").iterdir())
    words = ("://", "index-url", "find-links", "trusted-host")
    # The Makefile tells uv not to write any such line; that is not naming one.
    texts = {file: file.read_text().replace("--no-emit-index-url --no-emit-find-links", "") for file in files}
    assert [(file.name, word) for file, text in texts.items() for word in words if word in text] == []


def test_every_pin_has_its_hash() -> None:
    """Each line of a lock pins one version and carries at least one SHA-256."""
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert [file.stem for file in files] == ["build", "dev", "lock", "run"]
    for file in files:
        lines = [line for line in file.read_text().splitlines() if line and not line.lstrip().startswith("#")]
        pins = "\n".join(lines).replace("\\\n", " ").splitlines()
        assert pins
        assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_build_backend_is_the_locked_one() -> None:
    """The wheel is built by the version of the build backend that the lock carries."""
    (backend,) = PYPROJECT["build-system"]["requires"]
    assert f"\n{backend} \\\n" in (ROOT / "requirements" / "build.txt").read_text()
