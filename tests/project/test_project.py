"""The project keeps its own rules: versions, public names, the lock, the wheel, and the house's arrows."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import broker

ROOT = Path(__file__).parents[2]
BROKER = Path(broker.__file__).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
