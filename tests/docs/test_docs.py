"""The documents are true: what they show is run and compared, what they name exists."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import click
import pytest

from broker.cli.main import cli
from support.document import Shell, Step, inline_code, links, play, says, slugs, steps

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/**/*.md"),
                 *ROOT.glob("tests/**/*.md"), *ROOT.glob("deploy/**/*.md"))
)  # fmt: skip
RUN = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "schemas/README.md"]

_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_TEST = re.compile(r"^(tests/[\w/]+\.py)(?:::(test_\w+))?$")
_UNSAID = re.compile(
    r"/work\b|\bshared/|pypi\.org|files\.pythonhosted|repo1?\.maven|registry\.\w|docker\.io|ghcr\.io",
    re.IGNORECASE,
)


def name_of(path: Path) -> str:
    """A document's path from the project's folder."""
    return path.relative_to(ROOT).as_posix()


def has_commands(path: Path) -> bool:
    """Whether a document shows something to run."""
    return bool(steps(path.read_text()))


@pytest.mark.parametrize("path", [one for one in RUN if has_commands(one)], ids=name_of)
def test_what_a_document_shows_is_what_happens(path: Path, tmp_path: Path) -> None:
    """Its commands are run in order, succeed unless it asks for their exit code, and say what it shows."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    programs = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FTF_")}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "COLUMNS": "100"}
    with Shell(tmp_path, environment) as shell:
        play(shell, [Step(_of_make(step.command), step.shown) for step in steps(path.read_text())])


def _of_make(command: str) -> str:
    """The command, or what stands for a make target here: the demo is played, nothing else is run."""
    if not command.startswith("make "):
        return command
    assert command.split()[1] in _targets(), command
    return "ftf-broker demo --dir demo" if command == "make demo" else "true"


def _targets() -> set[str]:
    return set(_TARGET.findall((ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link leads to a file or folder, and to a heading of it where it says so."""
    for link in links(path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target.read_text()), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_tests_and_files_that_are_named_exist(path: Path) -> None:
    """A test is named as file::test; a path of the project in code is there."""
    for code in inline_code(path.read_text()):
        if found := _TEST.match(code):
            file = ROOT / found[1]
            assert file.is_file(), code
            assert found[2] is None or found[2] in _tests_of(file), code
        elif re.match(r"(broker|tests|docs|schemas|examples|deploy|bench|requirements)/[\w./-]*$", code):
            assert (ROOT / code).exists(), code


def _tests_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_make_targets_that_are_named_exist(path: Path) -> None:
    """``make x`` in a document is a target of the Makefile."""
    named = [code.split()[1] for code in inline_code(path.read_text()) if code.startswith("make ")]
    assert set(named) <= _targets()


def child(command: click.Command, word: str) -> click.Command | None:
    """The command of this name below a group; groups load theirs when asked."""
    return command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_that_are_named_exist(path: Path) -> None:
    """``ftf-broker a b --option`` in a document is a command of the product that has this option."""
    for code in inline_code(path.read_text()):
        if not code.startswith("ftf-broker "):
            continue
        command: click.Command = cli
        for word in code.split()[1:]:
            if word.startswith("--") and word != "--help":
                known = {one for parameter in (*command.params, *cli.params) for one in parameter.opts}
                assert word in known, f"'{code}' has no {word}"
            elif (below := child(command, word)) is not None:
                command = below
            else:
                assert not isinstance(command, click.Group) or word in {"…", "--help"}, f"'{code}': no {word}"


def test_every_group_of_commands_is_told_of() -> None:
    """Whatever ``ftf-broker --help`` lists is named in README.md."""
    readme = (ROOT / "README.md").read_text()
    names = cli.list_commands(click.Context(cli))
    assert [name for name in names if f"`ftf-broker {name}`" not in readme] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_no_document_names_a_registry_or_a_folder_of_ours(path: Path) -> None:
    """Where packages come from, and where we work, is nobody's business."""
    assert _UNSAID.findall(path.read_text()) == []


def test_the_readme_shows_the_product_by_line_twenty() -> None:
    """One sentence, and then what it does, before anything else."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines[0] == "# ftf-broker"
    assert "```console" in lines[:12]
    assert any(line.startswith("found, and named:") for line in lines[:22])


def test_decisions_are_numbered_once() -> None:
    """Each file in docs/adr has a number of its own, and its first line says which."""
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in files]
    assert len(set(numbers)) == len(numbers)
    for path, number in zip(files, numbers, strict=True):
        assert path.read_text().startswith(f"# {number}. "), path.name


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        ("a\n...\nc", "a\nb\nb\nc\n", True),
        ("a\n...\nc", "a\nc\n", True),
        ("a … c", "a b c\n", True),
        ("a", "a\n\n", True),
        ("at 2026-01-01 00:00:00Z", "at 2027-02-02 12:34:56Z\n", True),
        ("a", "a\nb\n", False),
        ("a\n...\nc", "a\nb\n", False),
        ("a … c", "a b\n", False),
        ("a.c", "abc\n", False),
        ("", "a\n", False),
    ],
)
def test_a_difference_is_seen(shown: str, output: str, same: bool) -> None:
    """What a document leaves out may be anything; what it shows must be there, and nothing else."""
    assert says(tuple(shown.splitlines()), output) is same


def test_steps_of_a_document() -> None:
    """Commands go over several lines, other blocks are passed over, and Python's output stands below it."""
    console = "```console\n$ one \\\n    more\nsaid\n$ two\n```\n"
    text = console + "```json\n{}\n```\n```python\npass\n```\n\n```text\nout\n```\n"
    assert [(one.command.splitlines()[0], one.shown) for one in steps(text)] == [
        ("one \\", ("said",)),
        ("two", ()),
        ("python - <<'END_OF_PYTHON'", ("out",)),
    ]


def test_a_shell_keeps_its_folder_variables_and_exit_code(tmp_path: Path) -> None:
    """Commands of ours run in this process see what the shell was told before, and it sees how they ended."""
    (tmp_path / "inner").mkdir()
    with Shell(tmp_path, {"PATH": os.environ["PATH"]}) as shell:
        assert shell.run("cd inner; export FTF_PROFILE='not there.toml'; WORD='a b'") == (0, "")
        code, said = shell.run('ftf-broker channel show "$WORD"')
        assert (code, said.splitlines()[0]) == (2, "error: there is no profile 'not there.toml'")
        assert shell.run("echo $?; pwd") == (0, f"2\n{tmp_path}/inner\n")
