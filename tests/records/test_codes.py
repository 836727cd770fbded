"""Code lists: complete where a standard is closed, and each with its version and source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import UsageError
from broker.records.codes import code_lists, load_code_lists


def test_iso_3166_1_is_complete() -> None:
    """All 249 officially assigned alpha-3 codes are countries, and the user-assigned X codes too."""
    countries = code_lists()["countries"]
    assert len(countries.codes) == 249
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in countries.codes)
    for code in ("AFG", "ALA", "BES", "CUW", "PSE", "SSD", "SXM", "TWN", "ZWE", "XAA", "XDD", "XZZ", "XKX"):
        assert code in countries
    for code in ("XXA", "XXX", "ZZZ", "USSR", "YUG", "ANT", "usa", "XA", "XAAA", ""):
        assert code not in countries


def test_m49_has_the_regions_and_the_countries() -> None:
    """M49 has its regions and every country by number; Taiwan has no M49 code."""
    m49 = code_lists()["m49"]
    assert len(m49.codes) == 248 + 34
    for code in ("001", "145", "419", "722", "004", "894"):
        assert code in m49
    assert "158" not in m49


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("places", ["XAA", "FRA", "M49:145"], ["145", "XXA", "M49:XAA", "M49:999"]),
        ("nationalities", ["XAA", "FRA", "XXA", "XXB", "XXC", "XXX"], ["M49:145", "XXQQ"]),
        ("document-issuers", ["XAA", "UNO", "EUE", "UNK"], ["UN", "M49:001"]),
        ("document-types", ["P", "PP", "PE", "V", "AC"], ["", "Q", "p"]),
        ("notice-colours", ["RED", "UN_SPECIAL"], ["PINK"]),
    ],
)
def test_lists_hold_what_they_include(name: str, right: list[str], wrong: list[str]) -> None:
    """Lists made of other lists hold their codes, with the prefix where one is named."""
    codes = code_lists()[name]
    assert [code for code in right if code not in codes] == []
    assert [code for code in wrong if code in codes] == []


def test_every_list_has_a_version_and_a_source() -> None:
    """A code means something only together with the list's version and its source."""
    for codes in code_lists().values():
        assert codes.version
        assert len(codes.source) > 10
        assert all(meaning.strip() for meaning in codes.codes.values())


@pytest.mark.parametrize(
    ("wrong", "right"), [("xaa", "XAA"), ("France", "FRA"), ("FRAA", "FRA"), ("???", None)]
)
def test_a_wrong_code_gets_a_suggestion(wrong: str, right: str | None) -> None:
    """A clerk who writes a country's name is told its code."""
    assert code_lists()["countries"].nearest(wrong) == right


def test_a_prefix_stands_before_every_pattern(tmp_path: Path) -> None:
    """A list with two patterns that is included with a prefix lets neither through without it."""
    inner = {"list": "in", "version": "1", "source": "a test", "codes": {}, "patterns": {"A.": "", "B.": ""}}
    outer = GOOD | {"includes": [{"list": "in", "prefix": "P:"}]}
    for name, content in (("inner", inner), ("outer", outer)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    codes = load_code_lists(tmp_path)["a"]
    assert [code for code in ("X", "P:A1", "P:B1", "A1", "B1") if code in codes] == ["X", "P:A1", "P:B1"]


GOOD: dict[str, Any] = {"list": "a", "version": "1", "source": "a test", "codes": {"X": "x"}}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"list": "a"}),
        json.dumps(GOOD | {"includes": [{"list": "a"}]}),
        json.dumps(GOOD | {"includes": [{"list": "b"}]}),
        json.dumps(GOOD | {"includes": 3}),
        json.dumps(GOOD | {"patterns": {"(": "broken"}}),
        json.dumps(GOOD | {"codes": 3}),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: str) -> None:
    """A code list that cannot be used is a usage error, never another exception."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError, match="code list"):
        load_code_lists(tmp_path)


def test_a_list_is_not_defined_twice(tmp_path: Path) -> None:
    """Two files for one list are refused, since nobody could tell which of them counts."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(GOOD))
    with pytest.raises(UsageError, match="exists already"):
        load_code_lists(tmp_path)
