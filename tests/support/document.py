"""A Markdown document: its blocks, links and code, and a shell that runs what it shows.

In a ``console`` block a line ``$ command`` (continued while it ends in a backslash) is run, and the lines
below it are what it says. ``...`` stands for any lines, ``…`` for anything within one; ids, hashes and times
are compared as such. ``bash`` and ``python`` blocks are run whole.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.cli.main import run

__all__ = ["Block", "Shell", "Step", "blocks", "inline_code", "links", "play", "says", "slugs", "steps"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_VARIES = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
)
_MARK = "::ended::"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command and the lines that the document shows below it; None where it shows nothing to compare."""

    command: str
    shown: tuple[str, ...] | None


def blocks(text: str) -> Iterator[Block]:
    """The document's fenced blocks in order."""
    return (Block(found[1], found[2]) for found in _FENCE.finditer(text))


def steps(text: str) -> list[Step]:
    """What the document's blocks run; a ``text`` block right behind a ``python`` block is its output."""
    found: list[Step] = []
    before = ""
    for block in blocks(text):
        if block.language == "bash":
            found.append(Step(block.text, None))
        elif block.language == "console":
            found += _of_console(block)
        elif block.language == "python":
            found.append(Step(f"python - <<'END_OF_PYTHON'\n{block.text}END_OF_PYTHON", None))
        elif block.language == "text" and before == "python":
            found[-1] = Step(found[-1].command, tuple(block.text.splitlines()))
        before = block.language
    return found


def _of_console(block: Block) -> list[Step]:
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found and not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line)
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"a console block begins with {line!r}, expected a command")
    return [Step("\n".join(command), tuple(shown)) for command, shown in found]


def links(text: str) -> list[str]:
    """Where the document's links lead, blocks aside."""
    return _LINK.findall(_FENCE.sub("", text))


def inline_code(text: str) -> list[str]:
    """What stands between back quotes, blocks aside."""
    return _CODE.findall(_FENCE.sub("", text))


def slugs(text: str) -> set[str]:
    """The anchors of the document's headings."""
    kept = (re.sub(r"[^\w\- ]", "", one.lower()) for one in _HEADING.findall(_FENCE.sub("", text)))
    return {one.replace(" ", "-") for one in kept}


def says(shown: tuple[str, ...], output: str) -> bool:
    """Whether a command's output is what the document shows of it; empty lines do not count."""
    lines = ["(?:.*\n)*?" if line == "..." else _line(_fixed(line)) + "\n" for line in shown if line.strip()]
    said = "".join(line.rstrip() + "\n" for line in _fixed(output).splitlines() if line.strip())
    return re.fullmatch("".join(lines), said) is not None


def _line(shown: str) -> str:
    return ".*".join(re.escape(part) for part in shown.split("…"))


def _fixed(text: str) -> str:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


class Shell:
    """One shell for a document, so that its variables and its folder last: ``with Shell(...) as shell``."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; its exit code, and what it wrote to stdout and stderr.

        A command of ours with nothing for a shell to do but to expand its words is run in this process,
        with the shell's folder and environment: starting Python costs more than most of them do.
        """
        if not command.startswith("ftf-broker ") or set(command) & set("|<>;&`("):
            return self._ask(command)
        _, said = self._ask(f"pwd; env -0 | tr '\\n\\0' ' \\n'; echo; printf '%s\\n' {command}")
        facts, _, words = said.partition("\n\n")
        folder, *variables = facts.splitlines()
        arguments = words.splitlines()[1:]
        code, output = _in_process(arguments, folder, dict(one.split("=", 1) for one in variables))
        self._ask(f"(exit {code})")
        return code, output

    def _ask(self, command: str) -> tuple[int, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(
            f"(exit ${{_code:-0}})\n{{ {command}\n}} </dev/null\n_code=$?; echo; echo {_MARK}$_code\n"
        )
        stdin.flush()
        output = ""
        for line in stdout:
            if line.startswith(_MARK):
                return int(line.removeprefix(_MARK)), output.removesuffix("\n")
            output += line
        raise AssertionError(f"the shell ended in {command!r}: {output}")


def play(shell: Shell, document: Iterable[Step]) -> None:
    """Run steps in order: each succeeds, unless its exit code is asked for, and says what is shown."""
    failed = ""
    for step in document:
        assert not failed or step.command == "echo $?", failed
        code, output = shell.run(step.command)
        failed = f"{step.command} ended with {code}: {output}" if code else ""
        if step.shown is not None:
            assert says(step.shown, output), f"$ {step.command}\n{output}"
    assert not failed, failed


def _in_process(arguments: list[str], folder: str, environment: Mapping[str, str]) -> tuple[int, str]:
    before, outer, said = dict(os.environ), Path.cwd(), io.StringIO()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return run(arguments), said.getvalue()
    finally:
        os.chdir(outer)
        os.environ.clear()
        os.environ.update(before)
