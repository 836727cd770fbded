"""The keys of a participant: what they open of the directory, and how often that is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.directory import grant_epoch, make_channel_keys, open_seed
from broker.directory.issuance import seal_seed
from broker.participant import keyring
from broker.participant.keyring import Keyring
from support.coalition import AUDITOR, BORDER, POLICE_A, Coalition, receiving_key, signing_key

CHANNEL = "repatriation"


def test_junk_is_tried_once_until_somebody_grants_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that opens nothing is a reason to complain, and is tried once, not for each message."""
    c = Coalition.create()
    c.wait(hours=2)
    draft = make_channel_keys(c.directory, CHANNEL, POLICE_A, c.now)
    to = [recipient for recipient in c.directory.recipients(CHANNEL, "metadata") if recipient.name == AUDITOR]
    (junk,) = seal_seed(c.directory, CHANNEL, 1, "metadata", bytes(32), to)
    seeds = tuple(junk if seed.recipient == AUDITOR else seed for seed in draft.metadata_seeds)
    c.add(replace(draft, metadata_seeds=seeds), c.signing[POLICE_A])
    tried = 0

    def counted(*arguments: object) -> bytes | None:
        nonlocal tried
        tried += 1
        return open_seed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keyring, "open_seed", counted)
    auditor = Keyring.of(AUDITOR, signing_key(AUDITOR), [receiving_key(AUDITOR)])
    for _ in range(5):
        assert auditor.epoch_key(c.directory, CHANNEL, 1, "metadata") is None
    assert (tried, auditor.broken) == (1, {(CHANNEL, 1, "metadata")})
    good = c.epoch_keys(CHANNEL, 1, BORDER)["metadata"]
    granted = grant_epoch(
        c.directory,
        CHANNEL,
        1,
        granter=BORDER,
        recipient=AUDITOR,
        metadata_seed=good.seed,
        content_seed=None,
        issued_at=c.now,
    )
    c.add(granted, c.signing[BORDER])
    found = auditor.epoch_key(c.directory, CHANNEL, 1, "metadata")
    assert found is not None
    assert found.seed == good.seed
    assert (tried, auditor.broken) == (2, set())
