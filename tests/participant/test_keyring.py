"""The keys of a participant: what they open of the directory, and how often that is tried."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from broker.directory import OpenedSeed, confirm_channel_keys, grant_epoch, make_channel_keys, open_seed
from broker.directory.issuance import seal_halves
from broker.participant import keyring
from broker.participant.keyring import Keyring
from support.coalition import AUDITOR, BORDER, KAS, POLICE_A, Coalition, receiving_key, signing_key

CHANNEL = "repatriation"


def test_junk_is_tried_once_until_somebody_grants_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit its commitment is reported against its sealer, and is tried once."""
    c = Coalition.create()
    c.wait(hours=2)
    draft = make_channel_keys(c.directory, CHANNEL, POLICE_A, c.now)
    to = [recipient for recipient in c.directory.recipients(CHANNEL, "metadata") if recipient.name == AUDITOR]
    (junk,) = seal_halves(c.directory, CHANNEL, 1, "metadata", bytes(32), to)
    halves = tuple(junk if half.recipient == AUDITOR else half for half in draft.metadata_halves)
    published = c.add(replace(draft, metadata_halves=halves), c.signing[POLICE_A])
    c.add(confirm_channel_keys(c.directory, CHANNEL, KAS, c.now), c.signing[KAS])
    tried = 0

    def counted(*arguments: object) -> OpenedSeed:
        nonlocal tried
        tried += 1
        return open_seed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keyring, "open_seed", counted)
    auditor = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
    for _ in range(5):
        assert auditor.epoch_key(c.directory, CHANNEL, 1, "metadata") is None
    (report,) = auditor.junk.values()
    assert (tried, report.channel, report.epoch, report.use) == (1, CHANNEL, 1, "metadata")
    assert (report.sealer, report.statement) == (POLICE_A, sha256(published.content).digest())
    assert report.detail == "does not fit the commitment in the directory"
    good = c.epoch_keys(CHANNEL, 1, BORDER)["metadata"]
    granted = grant_epoch(
        c.directory,
        CHANNEL,
        1,
        granter=BORDER,
        recipient=AUDITOR,
        metadata=good.halves,
        content=None,
        issued_at=c.now,
    )
    c.add(granted, c.signing[BORDER])
    found = auditor.epoch_key(c.directory, CHANNEL, 1, "metadata")
    assert found is not None
    assert found.halves == good.halves
    # What was sealed by another stays reported.
    assert (tried, list(auditor.junk.values())) == (2, [report])
