"""The specification suffices: a decoder written from it reads the example and judges the vectors."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.wire.encoding import KINDS
from spec import decoder, tables

VECTORS = Path(__file__).parents[1] / "vectors"
SPECIFICATION = tables.SPECIFICATION
Case = dict[str, Any]


def _cases() -> list[tuple[str, Case]]:
    files = [json.loads(path.read_text()) for path in sorted(VECTORS.glob("*.json"))]
    return [(file["area"], case) for file in files if "area" in file for case in file["cases"]]


CASES = _cases()


@pytest.fixture(scope="module")
def example() -> Case:
    found: Case = json.loads((VECTORS / "example.json").read_text())
    return found


@pytest.mark.parametrize(("area", "case"), CASES, ids=[f"{area}-{case['name']}" for area, case in CASES])
def test_independent_decoder_agrees(area: str, case: Case) -> None:
    """The independent decoder accepts each valid case, and refuses each other case by the named check."""
    if case["expect"] == "valid":
        found = decoder.judge(area, case["input"])
        assert {name: found[name] for name in case.get("output", {})} == case.get("output", {})
        return
    with pytest.raises(decoder.Invalid) as raised:
        decoder.judge(area, case["input"])
    assert str(raised.value) == case["expect"]


def test_example_opens(example: Case) -> None:
    """From its keys and messages alone, the independent decoder finds everything that the example states."""
    assert decoder.read_example(example) == example["found"]


def test_specification_quotes_the_example(example: Case) -> None:
    """The specification quotes every line that the independent decoder finds, without a difference."""
    quoted = SPECIFICATION.read_text().split("<!-- example: begin -->")[1].split("<!-- example: end -->")[0]
    lines = dict(re.findall(r"^(\S+) +([0-9a-f]+)$", quoted, re.MULTILINE))
    found: dict[str, str] = {}
    for name, value in decoder.read_example(example).items():
        if isinstance(value, list):
            found |= {f"{name}[{i}]": item for i, item in enumerate(value)}
        else:
            found[name] = value
    assert lines == found


def test_example_goes_through_every_check(example: Case) -> None:
    """A changed bit in any of the example's messages is found."""
    for place in range(len(example["messages"])):
        for part in ("key", "value"):
            messages = [dict(message) for message in example["messages"]]
            messages[place][part] = messages[place][part][:-1] + f"{int(messages[place][part][-1], 16) ^ 1:x}"
            with pytest.raises(decoder.Invalid):
                decoder.read_example(example | {"messages": messages})


def test_specification_has_the_tables_of_the_schemas() -> None:
    """The specification and the schema files say the same about each statement."""
    text = SPECIFICATION.read_text()
    assert tables.BEGIN + tables.tables() + tables.END in text, "run: cd tests && python -m spec.tables"


def test_specification_lists_every_kind() -> None:
    """The closed list of kinds is the same in the specification, in the decoder and in the broker."""
    section = SPECIFICATION.read_text().split("The list of kinds is closed:")[1].split("**Checks")[0]
    assert set(re.findall(r"`([a-z-]+)`", section)) == KINDS.keys() == decoder.KINDS.keys()
    assert {kind: cls.__name__ for kind, cls in KINDS.items()} == decoder.KINDS


def test_specification_names_every_check() -> None:
    """Every check that a vector names is named by the specification."""
    text = SPECIFICATION.read_text()
    assert {case["expect"] for _, case in CASES if f"`{case['expect']}`" not in text} == {"valid"}


def test_specification_links_lead_somewhere() -> None:
    """Every link of the specification leads to a file or to one of its own sections."""
    text = SPECIFICATION.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in headings}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link in anchors or (SPECIFICATION.parent / link).exists(), link


def test_decoder_is_independent() -> None:
    """The decoder imports the standard library, cryptography and fastavro, and nothing else."""
    tree = ast.parse(Path(decoder.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"cryptography", "fastavro"}


def test_decoder_runs_alone(tmp_path: Path) -> None:
    """When it is run as a program, the decoder judges files of vectors and says where it disagrees."""
    wrong = json.loads((VECTORS / "release.json").read_text())
    wrong["cases"][0]["expect"] = "index"
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))

    def run(path: Path) -> tuple[int, str]:
        command = [sys.executable, "-I", str(Path(decoder.__file__)), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert run(VECTORS / "merkle.json") == (0, "")
    assert run(tmp_path / "wrong.json") == (1, "release index-0: expected index, found valid\n")
