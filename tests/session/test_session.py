"""A program takes part without a command line: profile, session, publisher, subscriber."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker import Delivered, Ground, open_profile
from broker.clock import DAY_US, day_of, system_clock
from broker.errors import RecordInvalid, UsageError
from broker.services.kas import local
from broker.session import Profile, open_session
from support.cli_coalition import BORDER, CHANNEL, POLICE, CliCoalition, row

PHRASE = "an exercise"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliCoalition:
    """A founded coalition; afterwards no passphrase is given."""
    monkeypatch.setenv("FTF_PASSPHRASE", PHRASE)
    made = CliCoalition.create(tmp_path)
    monkeypatch.delenv("FTF_PASSPHRASE")
    return made


async def test_a_program_publishes_and_reads(place: CliCoalition, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one session publishes another one reads, with the key access service that its profile names."""
    monkeypatch.setenv("FTF_PASSPHRASE", PHRASE)
    fields = row()
    record_type = str(fields.pop("record_type"))
    async with open_profile(place.profile(POLICE)) as police, police.publisher() as publisher:
        published = await (await publisher.publish(CHANNEL, police.record(record_type, fields)))
    ground = Ground.consultation(
        CHANNEL,
        "INVESTIGATION",
        person="officer-17",
        role="analyst",
        legal_basis="Treaty, article 7",
        justification="Return",
    )
    async with open_profile(place.profile(BORDER)) as border, border.subscriber(ground) as subscriber:
        found = [item async for item in subscriber.deliveries()]
    (item,) = found
    assert isinstance(item, Delivered)
    assert (item.batch_id, item.index) == (published.batch_id, published.index)


async def test_a_day_without_an_intake_key_stops_no_service(
    place: CliCoalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day whose key cannot be announced is passed over, and the other days and the service go on."""
    monkeypatch.setenv("FTF_PASSPHRASE", PHRASE)
    monkeypatch.setattr(local, "system_clock", lambda: system_clock() + 3 * DAY_US)
    profile = Profile.load(place.profile("kas"))
    first = day_of(system_clock()) + local.INTAKE_DAYS_AHEAD
    (profile.keys / "service" / "intake" / f"{first}.destroyed").touch(mode=0o600)
    async with local.open_service(profile) as (session, _):
        announced = {day for _, day in session.directory.intake_days}
        assert local.unannounced_intake(session) == [first]
    assert first not in announced
    assert {first + 1, first + 2} <= announced


async def test_a_record_that_breaks_a_rule_is_told_to_the_program(place: CliCoalition) -> None:
    """Session.record lists all that is wrong, as publishing a file does."""
    async with open_profile(place.profile(BORDER)) as border:
        with pytest.raises(RecordInvalid, match="purpose"):
            border.record("ReturnEvent", {})


def test_a_ground_is_refused_where_a_text_is_wrong() -> None:
    """An unknown purpose or a justification that is too long is refused before anything is asked."""
    words = {"role": "analyst", "legal_basis": "Treaty, article 7", "justification": "x" * 501}
    with pytest.raises(UsageError, match="justification"):
        Ground.consultation(CHANNEL, "INVESTIGATION", person="officer-17", **words)
    with pytest.raises(UsageError, match="there is no purpose 'CURIOSITY'"):
        Ground.disclosure(CHANNEL, "CURIOSITY", mandate="XBB-7", **(words | {"justification": "Return"}))


async def test_a_session_without_key_access_cannot_read(place: CliCoalition) -> None:
    """A session that was opened without a key access service says so when a reader is asked for."""
    ground = Ground.disclosure(
        CHANNEL, "INVESTIGATION", mandate="XBB-7", role="system", legal_basis="Treaty", justification="Return"
    )
    async with open_session(Profile.load(place.profile(BORDER))) as border:
        with pytest.raises(UsageError, match="without key access"):
            async with border.subscriber(ground):
                pass


async def test_whoever_opens_a_session_may_be_asked_for_the_passphrase(place: CliCoalition) -> None:
    """The passphrase is asked for once for each participant, when its keys are first needed."""
    asked = list[str]()

    def ask(name: str) -> bytes:
        asked.append(name)
        return PHRASE.encode()

    async with open_session(Profile.load(place.profile(BORDER)), ask=ask) as own:
        assert asked == []
        assert own.keyring.name == own.keyring.name == BORDER
        assert asked == [BORDER]


async def test_a_program_that_gives_no_passphrase_is_told_how(place: CliCoalition) -> None:
    """A program that passes no function for asking is never prompted."""
    async with open_session(Profile.load(place.profile(BORDER))) as own:
        with pytest.raises(UsageError, match=f"the passphrase of '{BORDER}' is not given") as caught:
            _ = own.keyring
    assert caught.value.hint is not None
    assert "FTF_PASSPHRASE_FILE" in caught.value.hint


def test_a_session_needs_no_command_line() -> None:
    """Importing session, publisher and subscriber loads neither click nor a module of the command line."""
    modules = (
        "broker.session, broker.services.kas.local, broker.publish.publisher, broker.subscribe.subscriber"
    )
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"broker.session", "broker.publish.publisher"} <= loaded
    assert not {name for name in loaded if name.startswith("broker.cli") or name == "click"}
