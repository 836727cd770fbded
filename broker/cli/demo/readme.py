"""The README that the demo leaves in its folder, and the commands that it suggests at its end."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from broker.cli.demo.world import AUDITOR, COURTS
from broker.session.profile import slug

__all__ = ["next_commands", "write_readme"]


def next_commands(folder: Path, consulted: str) -> list[tuple[str, str]]:
    """Return commands to try, each with what it is for. A test runs every one of them."""
    tool = _tool()

    def profile(name: str) -> str:
        # The folder may have blanks in its name, and the command is pasted into a shell.
        return shlex.quote(str(folder / slug(name) / f"{slug(name)}.toml"))

    forged = shlex.quote(str(folder / "forged" / "auditor.toml"))
    why = "--person BV-4711 --role investigator --legal-basis 'Police Treaty, article 12'"
    return [
        ("Prove once more that both logs are whole:", f"{tool} audit replay --profile {profile(AUDITOR)}"),
        ("Replay the forged copy; the exit code is 1:", f"{tool} audit replay --profile {forged}"),
        (
            "See what a member sees of a channel:",
            f"{tool} log inspect --channel xaa-xbb --limit 5 --profile {profile('XBB:police')}",
        ),
        (
            "See what a stranger sees of it, which is sizes and times:",
            f"{tool} log inspect --channel xaa-xbb --limit 5 --profile {profile('XCC:border')}",
        ),
        (
            "Read one record as a person; the reading is logged:",
            f"{tool} consult --record {consulted} --channel xaa-xbb --purpose INVESTIGATION {why} "
            f"--justification 'trying it out' --profile {profile('XBB:police')}",
        ),
        (
            "Subscribe as the justice team, under its mandate; the reading is logged:",
            f"{tool} subscribe --channel xbb-xdd --purpose PROSECUTION --mandate {COURTS.ref} "
            "--role system --legal-basis 'Treaty, article 3' --justification 'trying it out' "
            f"--profile {profile(COURTS.agency)}",
        ),
        ("List the participants:", f"{tool} agency list --profile {profile(AUDITOR)}"),
    ]


def _tool() -> str:
    """Return the command in the form in which the user called it, so that it works when pasted."""
    called = sys.argv[0]
    # Called by a test or as a module: the name that an installation has is the best guess.
    if os.path.basename(called) != "ftf-broker":
        return "ftf-broker"
    found = shutil.which("ftf-broker")
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return "ftf-broker"
    # The command is not on the PATH, or another one of its name is: only its own path is sure to work.
    return shlex.quote(called)


_README = """\
This folder was made by: ftf-broker demo --dir {folder}

It holds a coalition of states that do not exist, with records about people who do not exist. You can
play with it, break it, and remove it.

{log}
  authority/      the authority of the coalition: three keys, of which two must sign together
  xaa-police/ …   one folder for each agency, with its profile (.toml), its keys and its state
  kas/            the key access service, which logs each access before it helps to open a record
  auditor/        the auditor, who replays the logs and can read no record
  examples/       the files that were published, and the rejected rows of one of them
  forged/         a copy of the log with one bit changed, and a profile to replay it with

The keys of each participant are encrypted with a passphrase. It is in a file beside them, which the profile
names as "passphrase_file". Do that in an exercise only. Outside one, leave this line out of the profile:
the commands then ask for the passphrase.
"""


_HERE = '  log.db          the log: one SQLite file, which any SQLite tool opens (table "message")'
_ELSEWHERE = "  (elsewhere)     the log: {log}"


def write_readme(folder: Path, shown: Path, log: str) -> None:
    """Write README.txt, which says what the folder holds and where the log is.

    ``shown`` is the folder as the user typed it.
    """
    # The same URL as ``command`` makes when no --log is given.
    is_here = log == f"sqlite:{quote(str(folder / 'log.db'))}"
    text = _README.format(folder=shown, log=_HERE if is_here else _ELSEWHERE.format(log=log))
    (folder / "README.txt").write_text(text, encoding="utf-8")
