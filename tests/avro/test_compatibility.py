"""A folder of record types: its versions are checked, kept and released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.avro.compatibility import check_folder, keep, main, release
from broker.avro.schema import SchemaStore
from broker.errors import UsageError
from support.avro_schemas import A, enum, record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One record type in its second version; both are released."""
    write(tmp_path / "sighting.avsc", record(A))
    release(tmp_path)
    keep(tmp_path, "sighting")
    write(tmp_path / "sighting.avsc", record(A, ("b", "long", 0)))
    release(tmp_path)
    return tmp_path


def write(path: Path, schema: object) -> None:
    """One schema file."""
    path.write_text(json.dumps(schema))


def test_a_changed_record_type(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documented way to a new version leaves no problem, and older records stay readable."""
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == "all versions understand each other\n"
    lines = (folder / "released.txt").read_text().splitlines()
    assert [line.split()[1:] for line in lines] == [["Sighting", "1"], ["Sighting", "2"]]
    store = SchemaStore.load(folder)
    assert [store.by_id(bytes.fromhex(line.split()[0])) is not None for line in lines] == [True, True]


def test_a_kept_version_is_self_contained(tmp_path: Path) -> None:
    """A version is kept with the types of its time, and has the same id as before."""
    (tmp_path / "types").mkdir()
    write(tmp_path / "types/e.avsc", enum("X"))
    write(tmp_path / "sighting.avsc", record(("a", "E")))
    (line,) = release(tmp_path)
    keep(tmp_path, "sighting")
    write(tmp_path / "types/e.avsc", enum("Z"))
    found = SchemaStore.load(tmp_path).by_id(bytes.fromhex(line.split()[0]))
    assert found is not None
    assert found.schema["fields"][0]["type"]["symbols"] == ["X"]


@pytest.mark.parametrize(
    ("name", "schema", "problem"),
    [
        ("sighting.avsc", record(A, ("b", "long")), "sighting 1 and 2: b: added without a default"),
        ("sighting.avsc", record(A, ("b", "long", "x")), "sighting 2: b: default 'x' is no long"),
        ("sighting.avsc", record(A, ("b", "long", 1)), "sighting.avsc: edited since version 2 was released"),
        ("older/sighting.1.avsc", record(A, ("c", "long", 1)), "edited since version 1 was released"),
        ("older/sighting.2.avsc", record(A), "sighting 1 and 2: the same schema twice"),
        ("other.avsc", record(A, name="Other"), "other.avsc: version 1 is not released"),
    ],
)
def test_problems_of_a_folder(
    folder: Path, name: str, schema: Any, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command exits 1 and names every problem: between versions, and with what was released."""
    write(folder / name, schema)
    assert main([str(folder)]) == 1
    assert problem in capsys.readouterr().out


def test_a_released_version_that_is_gone(folder: Path) -> None:
    """A released version may not be deleted: its records are still in the logs."""
    (folder / "older/sighting.1.avsc").unlink()
    (folder / "sighting.avsc").rename(folder / "other.avsc")
    write(folder / "other.avsc", record(A, name="Other"))
    assert check_folder(folder)[-2:] == [
        "Sighting version 1: released, and now missing",
        "Sighting version 2: released, and now missing",
    ]


def test_releasing_twice_adds_nothing(folder: Path) -> None:
    """A version that is released already is not written again."""
    before = (folder / "released.txt").read_bytes()
    assert main([str(folder), "--release"]) == 0
    assert (folder / "released.txt").read_bytes() == before


def test_a_version_that_changes_nothing_is_not_released(folder: Path) -> None:
    """A version that is kept and then not changed is a problem."""
    assert main([str(folder), "--keep", "sighting"]) == 0
    with pytest.raises(UsageError, match="the same schema as a version released before"):
        release(folder)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("older/sighting.avsc", "{}", "expected a name like <base>.<n>.avsc"),
        ("older/sighting.5.avsc", json.dumps(record(A)), "older versions are numbered [1, 5]"),
        ("older/gone.1.avsc", json.dumps(record(A)), "'gone' has no current version"),
        ("released.txt", "abc Sighting 1\n", "line 1: expected <hex id> <RecordType> <version>"),
        ("released.txt", f"{'0' * 64} S 1\n" * 2, "line 2: S 1 is listed twice"),
        ("sighting.avsc", "{", "not JSON"),
    ],
)
def test_a_folder_that_cannot_be_checked(
    folder: Path, name: str, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a wrong file ends in exit 2 and the name of the file."""
    (folder / name).write_text(text)
    assert main([str(folder)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert why in message


@pytest.mark.parametrize("arguments", [[], ["--keep", "sighting"], ["--release"]])
def test_a_folder_without_record_types(tmp_path: Path, arguments: list[str]) -> None:
    """An empty or missing folder is wrong usage, not a success."""
    assert main([str(tmp_path / "nowhere"), *arguments]) == 2
