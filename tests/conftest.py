"""What every test run shares: it says which broker is tested, and it does the same thing each time."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import hypothesis
import pytest

import broker
from broker.services.kas import channel_service

__all__ = ["pytest_report_header"]

pytest_plugins = ["support.kafka"]

THOROUGH = os.environ.get("FTF_THOROUGH") == "1"

# derandomize: a failure must come again, here and for whoever is told of it.
# deadline, too_slow: a loaded machine is not a bug, and nothing here is measured in a timed test.
hypothesis.settings.register_profile(
    "ftf",
    derandomize=True,
    deadline=None,
    max_examples=2_000 if THOROUGH else 60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("ftf")


@pytest.fixture(autouse=True)
def _looks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that finds its log cut looks again without waiting."""
    monkeypatch.setattr(channel_service, "LOOK_AGAIN_S", (0.0,))


def pytest_report_header(config: pytest.Config) -> str:
    """Say which broker is tested, since the source tree lies beside the tests and may differ from it."""
    home = Path(broker.__file__).parent
    kind = "THE SOURCE TREE, not a wheel" if home.parent == config.rootpath else "the built wheel"
    effort = ", thorough" if THOROUGH else ""
    return f"broker: {importlib.metadata.version('ftf-broker')}, {kind}, in {home}{effort}"
