"""Attacks that would have an honest party accused: by bytes that it did not sign, or for being late."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from broker.crypto.sign import SigningKey
from broker.directory import Directory, drafts, header_for
from broker.subscribe.subscriber import Violation
from broker.verify.violations import Kind
from broker.wire.statements import AgencySuspended, KeyUse
from support.coalition import CARE, POLICE_A, signing_key
from support.simulator import Simulator
from support.world import World


def must_name_nobody(world: Simulator, name: str = POLICE_A) -> None:
    """Neither the auditor nor a subscriber says anything of this party."""
    report, given = world.observe()
    details = [entry.violation.detail for entry in report.violations]
    details += [item.detail for item in given if isinstance(item, Violation)]
    assert details
    assert not [detail for detail in details if name in detail], details


# bytes that somebody else wrote


@pytest.mark.parametrize(
    "header",
    [{}, {"directory_root": b"\x07" * 32}, {"directory_size": 10_000}, {"sequence": 7}, {"issued_at": 1}],
    ids=["nothing", "another directory", "a larger directory", "a gap", "its time"],
)
def test_a_member_forges_a_colleague_s_manifest(world: Simulator, header: dict[str, object]) -> None:
    """v: A member seals what a colleague never signed; it is unaccounted and names nobody."""
    place = world.publish(issuer=POLICE_A, key=signing_key(CARE), header=header)
    world.must_be_void(Kind.UNACCOUNTED, place)
    must_name_nobody(world)


@dataclass(frozen=True)
class _NoKey:
    """The public half of a key, and a signature that it did not make."""

    public: bytes
    key_id: bytes

    def sign(self, kind: str, genesis: bytes, content: bytes) -> bytes:
        return b"\1" * 64


def test_a_manifest_under_a_revoked_key_that_nobody_signed(world: Simulator) -> None:
    """v: The id of a revoked key is public, and a manifest that only names it accuses nobody."""
    old = signing_key("police old")

    async def revoke(w: World) -> None:
        added = drafts.add_key(
            w.directory, party=POLICE_A, use=KeyUse.SIGNING, public_key=old.public, issued_at=w.coalition.now
        )
        await w.coalition.add_to(w.log, added, signing_key(POLICE_A), old)
        revoked = drafts.revoke_key(
            w.directory,
            party=POLICE_A,
            key_id=old.key_id,
            since=w.directory.size,
            issued_at=w.coalition.now,
        )
        header = header_for(w.directory, POLICE_A, issued_at=w.coalition.now)
        await w.coalition.add_to(w.log, replace(revoked, header=header), signing_key(POLICE_A))

    world.write(revoke)
    unsigned: SigningKey = _NoKey(old.public, old.key_id)  # type: ignore[assignment]
    place = world.publish(issuer=POLICE_A, key=unsigned)
    world.must_be_void(Kind.UNACCOUNTED, place)
    must_name_nobody(world)


def test_more_than_one_forgery_in_a_row(world: Simulator) -> None:
    """v: Two forgeries, one behind the other, are one run of unaccounted messages."""
    first = world.publish(issuer=POLICE_A, key=signing_key(CARE))
    world.publish(issuer=POLICE_A, key=signing_key(CARE))
    world.must_be_void(Kind.UNACCOUNTED, first)
    must_name_nobody(world)


def test_a_claimed_view_of_the_directory_is_nobody_s_fault(world: Simulator) -> None:
    """v: What claims another view in the authority's name, unsigned, is the root of no other statement."""

    def suspension(directory: Directory, now: int) -> AgencySuspended:
        return drafts.suspend_agency(directory, agency=POLICE_A, reason="x", issued_at=now)

    def elsewhere(directory: Directory, now: int) -> AgencySuspended:
        made = suspension(directory, now)
        return replace(made, header=replace(made.header, directory_root=b"\x07" * 32))

    forged = world.say_anyway(elsewhere, signing_key(CARE))
    other = world.say_anyway(suspension, signing_key(CARE))
    world.must_report(Kind.DIRECTORY_STATEMENT, forged, other, delivers=True)
