"""A program takes part without a command line: profile, session, publisher, subscriber."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.access.requests import new_details
from broker.errors import UsageError
from broker.publish.publisher import Publisher
from broker.records.record import from_json
from broker.services.kas.local import open_key_access
from broker.session import Profile, open_session
from broker.subscribe.asking import Ground
from broker.subscribe.subscriber import Delivered, Subscriber
from broker.wire.manifest import Operation
from broker.wire.terms import Purpose
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
    sent = row()
    record_type = str(sent.pop("record_type"))
    async with (
        open_session(Profile.load(place.profile(POLICE))) as own,
        Publisher(own.participant) as publisher,
    ):
        record = from_json(record_type, sent, store=own.store, today=datetime.now(UTC).date())
        published = await (await publisher.publish(CHANNEL, record))
    ground = Ground(
        channel=CHANNEL,
        purpose=Purpose.INVESTIGATION,
        operation=Operation.CONSULTATION,
        details=lambda: new_details(
            person="officer-17", role="analyst", legal_basis="Treaty, article 7", justification="Return"
        ),
    )
    async with (
        open_session(Profile.load(place.profile(BORDER)), key_access=open_key_access) as own,
        own.key_access() as kas,
        Subscriber(own.participant, kas, ground=ground) as subscriber,
    ):
        found = [item async for item in subscriber.deliveries()]
    (item,) = found
    assert isinstance(item, Delivered)
    assert (item.batch_id, item.index) == (published.batch_id, published.index)


async def test_whoever_opens_a_session_may_be_asked_for_the_passphrase(place: CliCoalition) -> None:
    """It is asked for once for each participant whose keys are used, when they are first needed."""
    asked = list[str]()

    def ask(name: str) -> bytes:
        asked.append(name)
        return PHRASE.encode()

    async with open_session(Profile.load(place.profile(BORDER)), ask=ask) as own:
        assert asked == []
        assert own.keyring.name == own.keyring.name == BORDER
        assert asked == [BORDER]


async def test_a_program_that_gives_no_passphrase_is_told_how(place: CliCoalition) -> None:
    """Nothing prompts behind a program's back."""
    async with open_session(Profile.load(place.profile(BORDER))) as own:
        with pytest.raises(UsageError, match=f"the passphrase of '{BORDER}' is not given") as caught:
            _ = own.keyring
    assert caught.value.hint is not None
    assert "FTF_PASSPHRASE_FILE" in caught.value.hint


def test_a_session_needs_no_command_line() -> None:
    """Importing it, its publisher and its subscriber loads no module of the command line, nor click."""
    modules = (
        "broker.session, broker.services.kas.local, broker.publish.publisher, broker.subscribe.subscriber"
    )
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"broker.session", "broker.publish.publisher"} <= loaded
    assert not {name for name in loaded if name.startswith("broker.cli") or name == "click"}
