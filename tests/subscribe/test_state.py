"""The subscriber's state file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.directory import HighWater
from broker.errors import UsageError
from broker.log import Partition
from broker.subscribe.state import Position, StateFile, SubscriberState
from broker.verify.partition import ReaderState

RNG = Random(11)
GENESIS, OTHER, STREAM = RNG.randbytes(32), RNG.randbytes(32), RNG.randbytes(16)
STATE = SubscriberState(
    genesis=GENESIS,
    channel="repatriation",
    high_water=HighWater(size=24, root=OTHER),
    positions={
        Partition("returns", 0): Position(
            reader=ReaderState(next_offset=257, mark=20, heads=((("XAA:police", 0, STREAM), 3, OTHER, 200),)),
            offset=300,
            index=17,
            faults=((12, OTHER), (255, GENESIS)),
        ),
        Partition("justice", 0): Position(reader=ReaderState(next_offset=0, mark=0)),
    },
    sink={"bytes": 4711},
)


def opened(path: Path, genesis: bytes = GENESIS, channel: str = "repatriation") -> StateFile:
    return StateFile.open(path, genesis=genesis, channel=channel)


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    """A state comes back whole from its file, which its owner alone may read."""
    path = tmp_path / "state.json"
    with opened(path) as file:
        assert file.state == SubscriberState(genesis=GENESIS, channel="repatriation")
        file.save(STATE)
        file.save(STATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with opened(path) as file:
        assert file.state == STATE
    assert {file.name for file in tmp_path.iterdir()} == {"state.json", "state.json.lock"}


def test_a_person_can_read_it(tmp_path: Path) -> None:
    """The file is JSON, its bytes are hexadecimal, and its version comes first."""
    path = tmp_path / "state.json"
    with opened(path) as file:
        file.save(STATE)
    text = path.read_text()
    assert text.startswith('{\n "version": 1,\n "genesis": "' + GENESIS.hex())


def test_a_crash_while_saving_leaves_the_state_before(tmp_path: Path) -> None:
    """A half-written new file is ignored, and the next save works."""
    path = tmp_path / "state.json"
    with opened(path) as file:
        file.save(STATE)
    path.with_name("state.json.new").write_text('{"version": 1, "gen')
    with opened(path) as file:
        assert file.state == STATE
        file.save(STATE)


def broken(change: Any) -> bytes:
    value = STATE.to_json()
    change(value)
    return json.dumps(value).encode()


DAMAGED: list[Any] = [
    pytest.param(b"", "damaged", id="empty"),
    pytest.param(b"\xff\xfe", "damaged", id="no text"),
    pytest.param(b"[]", "damaged", id="no object"),
    pytest.param(b"[" * 100_000, "damaged", id="nested"),
    pytest.param(broken(lambda v: v.pop("genesis")), "'genesis' is missing", id="genesis missing"),
    pytest.param(broken(lambda v: v.update(genesis=GENESIS.hex()[2:])), "32 bytes", id="genesis short"),
    pytest.param(broken(lambda v: v.update(version=2)), "version 2", id="newer"),
    pytest.param(broken(lambda v: v.update(version="1")), "damaged", id="version no number"),
    pytest.param(broken(lambda v: v["partitions"][0].update(next_offset=-1)), "damaged", id="offset"),
    pytest.param(broken(lambda v: v["partitions"][1]["heads"][0].update(stream="zz")), "damaged", id="head"),
    pytest.param(broken(lambda v: v["partitions"][0].update(mark=True)), "damaged", id="bool"),
    pytest.param(
        broken(lambda v: v["partitions"][1]["faults"][0].update(offset=2**63 - 1)), "no offset", id="fault"
    ),
    pytest.param(broken(lambda v: v["partitions"][1]["faults"][1].update(leaf="")), "32 bytes", id="leaf"),
    pytest.param(broken(lambda v: v.update(channel=None)), "damaged", id="channel"),
    pytest.param(broken(lambda v: v.update(genesis=OTHER.hex())), "belongs to the coalition", id="foreign"),
    pytest.param(broken(lambda v: v.update(channel="other")), "belongs to channel", id="other channel"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    """A damaged, foreign or newer file is a usage error with a hint, and stays as it is."""
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        opened(path)
    assert caught.value.hint
    assert path.read_bytes() == content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.sampled_from(["genesis", "channel", "directory", "partitions"]), json_values)
def test_any_field_gives_a_state_or_a_value_error(name: str, value: object) -> None:
    """Any value in any field gives a state, or the error that is reported as damage."""
    try:
        SubscriberState.from_json(STATE.to_json() | {name: value})
    except (ValueError, KeyError):
        return


def test_a_second_process_is_told(tmp_path: Path) -> None:
    """While one process holds the file another gets a usage error, until the first is gone."""
    path = tmp_path / "state.json"
    program = (
        "import sys; from pathlib import Path\n"
        "from broker.errors import UsageError\n"
        "from broker.subscribe.state import StateFile\n"
        "try: StateFile.open(Path(sys.argv[1]), genesis=bytes(32), channel='c')\n"
        "except UsageError as error: print(error)\n"
        "else: print('mine')\n"
    )

    def other() -> str:
        command = [sys.executable, "-c", program, os.fspath(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with StateFile.open(path, genesis=bytes(32), channel="c"):
        assert "another process is using it" in other()
        with pytest.raises(UsageError, match="another process"):
            StateFile.open(path, genesis=bytes(32), channel="c")
    assert other() == "mine\n"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A state file in a folder that does not exist is an error that says so."""
    with pytest.raises(UsageError, match="No such file"):
        opened(tmp_path / "nowhere" / "state.json")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link in the place of the lock file is refused."""
    (tmp_path / "state.json.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        opened(tmp_path / "state.json")
    assert not (tmp_path / "elsewhere").exists()
