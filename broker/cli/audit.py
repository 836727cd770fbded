"""``audit``: the commands of an auditor: replay the logs, and list who read what, when and why."""

from __future__ import annotations

import click

from broker.cli.audit_accesses import command as accesses
from broker.cli.audit_replay import command as replay

__all__ = ["group"]


@click.group("audit")
def group() -> None:
    """Verify the logs, and see who read what and why."""


group.add_command(replay)
group.add_command(accesses)
