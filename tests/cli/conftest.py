"""A small coalition in a folder, made by the commands themselves, once; each test gets a copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.command_line import ftf_broker

__all__ = ["AUTHORITY"]

AUTHORITY = "authority/authority.toml"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FTF_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FTF_PASSPHRASE", "an exercise")


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coalition")
    before, environment = Path.cwd(), dict(os.environ)
    os.environ["FTF_PASSPHRASE"] = "an exercise"
    os.chdir(folder)
    try:
        _make()
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
    return folder


def _make() -> None:
    authority = ("--profile", AUTHORITY)
    like = ("--like", AUTHORITY, "--kas", "local:kas/kas.toml")
    members = [word for name in ("XAA:police", "XBB:police", "XCC:border") for word in ("--member", name)]
    terms = ("--type", "all", "--purpose", "INVESTIGATION", "--legal-basis", "Treaty, article 7")
    for command in (
        ("init", "Exercise Amber", "authority", "--log", "sqlite:log.db"),
        ("agency", "init", "XAA:police", "xaa-police", *like, "--title", "Police of Aldoria"),
        ("agency", "add", "xaa-police/xaa-police.statement", *authority),
        ("agency", "init", "XBB:police", "xbb-police", *like, "--title", "Police of Borvenia"),
        ("agency", "add", "xbb-police/xbb-police.statement", *authority),
        ("agency", "init", "XCC:border", "xcc-border", *like, "--title", "Border guard of Cassarine"),
        ("agency", "add", "xcc-border/xcc-border.statement", *authority),
        ("agency", "init", "XDD:justice", "xdd-justice", *like, "--title", "Justice of Dorvale"),
        ("agency", "add", "xdd-justice/xdd-justice.statement", *authority),
        ("kas", "init", "kas", "kas", "--like", AUTHORITY),
        ("kas", "add", "kas/kas.statement", *authority),
        ("kas", "announce", "--profile", "kas/kas.toml"),
        ("auditor", "init", "auditor", "auditor", "--like", AUTHORITY),
        ("auditor", "add", "auditor/auditor.statement", *authority),
        ("channel", "open", "trio", *members, *terms, *authority),
        ("channel", "rotate", "trio", "--profile", "xaa-police/xaa-police.toml"),
    ):
        told = ftf_broker(*command)
        assert told.code == 0, (command, told)


@pytest.fixture
def coalition(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A coalition of four agencies, a KAS and an auditor in the working directory, with channel ``trio``."""
    folder = tmp_path / "moved"
    shutil.copytree(_made, folder)
    monkeypatch.chdir(folder)
    return folder
