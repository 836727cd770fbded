"""What the demo's auditor proves: a replay of both logs, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass

from broker.audit.replay import replay as replay_logs
from broker.cli.opening import open_session
from broker.session import Profile
from broker.show.meanings import KINDS, violation_line
from broker.verify.violations import Place

__all__ = ["Audit", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a replay counted, and the violations that it found."""

    verified: bool
    records: int
    manifests: int
    access_entries: int
    violations: int
    lines: tuple[str, ...]
    """Each violation as one line."""
    rows: tuple[tuple[str, str, str], ...]
    """Each violation as place, what it is, and the place that it follows from."""
    roots: tuple[Place, ...]
    """The places of the violations that follow from no other."""


async def replay(profile: Profile) -> Audit:
    """Replay every channel with the keys of this auditor."""
    async with open_session(profile) as session:
        # A replay needs no service: the auditor's keys and the two logs are enough.
        report = await replay_logs(session.participant)
    violations = [listed.violation for listed in report.violations]
    return Audit(
        verified=report.verified,
        records=report.counts.records,
        manifests=report.counts.manifests,
        access_entries=report.counts.access_entries,
        violations=report.violation_count,
        lines=tuple(violation_line(violation) for violation in violations),
        # A violation without a cause is a root; all others follow from one of the roots.
        roots=tuple(violation.place for violation in violations if violation.caused_by is None),
        rows=tuple(
            (str(violation.place), KINDS[violation.kind], str(violation.caused_by or ""))
            for violation in violations
        ),
    )
