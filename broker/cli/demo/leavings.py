"""What the demo leaves behind: a folder to be played with, a README in it, and commands to try."""

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
    """Commands to try; every one works when pasted."""
    tool = _tool()

    def profile(name: str) -> str:
        return shlex.quote(str(folder / slug(name) / f"{slug(name)}.toml"))

    forged = shlex.quote(str(folder / "forged" / "auditor.toml"))
    why = "--person BV-4711 --role investigator --legal-basis 'Police Treaty, article 12'"
    return [
        ("prove both logs once more", f"{tool} audit replay --profile {profile(AUDITOR)}"),
        ("see what the forger's copy gives away; exit code 1", f"{tool} audit replay --profile {forged}"),
        (
            "what a member sees of a channel",
            f"{tool} log inspect --channel xaa-xbb --limit 5 --profile {profile('XBB:police')}",
        ),
        (
            "what a stranger sees of it: sizes and times",
            f"{tool} log inspect --channel xaa-xbb --limit 5 --profile {profile('XCC:border')}",
        ),
        (
            "consult a record; it is logged",
            f"{tool} consult --record {consulted} --channel xaa-xbb --purpose INVESTIGATION {why} "
            f"--justification 'trying it out' --profile {profile('XBB:police')}",
        ),
        (
            "subscribe as the justice team does, under its mandate; it is logged",
            f"{tool} subscribe --channel xbb-xdd --purpose PROSECUTION --mandate {COURTS.ref} "
            "--role system --legal-basis 'Treaty, article 3' --justification 'trying it out' "
            f"--profile {profile(COURTS.agency)}",
        ),
        ("who takes part", f"{tool} agency list --profile {profile(AUDITOR)}"),
    ]


def _tool() -> str:
    """The command as it was called, so that what is shown can be pasted."""
    called = sys.argv[0]
    if os.path.basename(called) != "ftf-broker":
        return "ftf-broker"
    found = shutil.which("ftf-broker")
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return "ftf-broker"
    return shlex.quote(called)


_README = """\
This folder was made by: ftf-broker demo --dir {folder}

A coalition of states that do not exist, with records about people who do not exist. Play with it, break
it, remove it.

{log}
  authority/      the coalition's authority: three keys, of which two sign together
  xaa-police/ …   one folder for each agency: its profile (.toml), its keys, its state
  kas/            the key access service: it logs each access before it releases what opens a record
  auditor/        the auditor: it replays the logs and reads no record
  examples/       the files that were published, and the rejects of one of them
  forged/         a copy of the log with one bit changed, and the auditor's profile to replay it with

Every participant's keys are encrypted with a passphrase, which lies beside them in a file of mode 0600
("passphrase_file" in the profile). That is for an exercise only: outside one, leave that line out of the
profile, and the passphrase is asked for.
"""


_HERE = '  log.db          the log: one SQLite file; look into it with any SQLite tool (table "message")'
_ELSEWHERE = "  (elsewhere)     the log: {log}"


def write_readme(folder: Path, shown: Path, log: str) -> None:
    """Say in the folder what it holds, and where the log is."""
    is_here = log == f"sqlite:{quote(str(folder / 'log.db'))}"
    text = _README.format(folder=shown, log=_HERE if is_here else _ELSEWHERE.format(log=log))
    (folder / "README.txt").write_text(text, encoding="utf-8")
