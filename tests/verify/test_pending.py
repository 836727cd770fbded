"""A pending batch takes its own bodies in order and nothing else, and a doubt finds the stranger."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest

from broker.log.protocol import StoredMessage
from broker.verify.pending import Copy, Doubt, Pending
from broker.verify.verdict import NewestManifest
from broker.wire.limits import MAX_BATCH_BYTES

ID = b"i" * 16
OTHER = b"o" * 16
BODIES = [b"\x02first", b"\x02second", b"\x02third"]


def _key(i: int, manifest_id: bytes = ID) -> bytes:
    return manifest_id + i.to_bytes(4, "big")


def _pending(
    bodies: Sequence[bytes] = BODIES, *, keep_bodies: bool = True, manifest: bytes = b"m"
) -> Pending:
    digests = b"".join(sha256(body).digest() for body in bodies)
    newest = NewestManifest(b"t" * 16, ID, digests, len(bodies))
    message = StoredMessage(7, ID, manifest, 1000)
    return Pending.behind(message, newest, Copy(), undo=None, keep_bodies=keep_bodies)


def _digest(value: bytes | None) -> bytes | None:
    return None if value is None else sha256(value).digest()


def _messages(bodies: Sequence[bytes] = BODIES) -> list[StoredMessage]:
    return [StoredMessage(8 + i, _key(i), body, 1000) for i, body in enumerate(bodies)]


def test_bodies_are_taken_in_order() -> None:
    """Each body is taken once, and its value is kept where bodies are kept."""
    kept = _pending()
    slim = _pending(keep_bodies=False)
    for i, body in enumerate(BODIES):
        assert (kept.next_key, kept.next_digest) == (_key(i), sha256(body).digest())
        assert kept.take(_key(i), body, _digest(body))
        assert slim.take(_key(i), body, _digest(body))
        assert (kept.seen, slim.seen) == (i + 1, i + 1)
    assert (kept.bodies, slim.bodies) == (BODIES, None)
    assert kept.missing_digests == b""
    assert kept.room == slim.room == MAX_BATCH_BYTES - 1 - sum(map(len, BODIES))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (_key(0), b"\x02other"),
        (_key(0), None),
        (_key(1), BODIES[1]),
        (_key(1), BODIES[0]),
        (_key(0, OTHER), BODIES[0]),
        (ID, BODIES[0]),
        (None, BODIES[0]),
    ],
    ids=["altered", "no value", "too early", "index", "other batch", "key of a manifest", "no key"],
)
def test_nothing_but_the_next_body_is_taken(key: bytes | None, value: bytes | None) -> None:
    """A message with another key, other bytes or none is refused, and nothing changes."""
    pending = _pending()
    assert not pending.take(key, value, _digest(value))
    assert pending == _pending()
    rest = [StoredMessage(8, key, value, 1000), *_messages()[1:]]
    assert not pending.take_rest(rest)
    assert pending == _pending()


def test_a_body_beyond_the_room_is_refused() -> None:
    """A batch has room for what one append can hold, to the byte."""
    room = sum(map(len, BODIES))
    fits = _pending(manifest=bytes(MAX_BATCH_BYTES - room))
    assert all(fits.take(_key(i), body, _digest(body)) for i, body in enumerate(BODIES))
    assert fits.room == 0
    tight = _pending(manifest=bytes(MAX_BATCH_BYTES - room + 1))
    assert not tight.take_rest(_messages())
    assert [tight.take(_key(i), body, _digest(body)) for i, body in enumerate(BODIES)] == [True, True, False]
    assert (tight.seen, tight.bodies) == (2, BODIES[:2])


@pytest.mark.parametrize("seen", [0, 1, 2])
def test_the_rest_taken_at_once_is_the_rest_taken_one_by_one(seen: int) -> None:
    """Both ways leave the same batch behind."""
    at_once = _pending()
    one_by_one = _pending()
    for message in _messages()[:seen]:
        at_once.take(message.key, message.value, _digest(message.value))
    assert at_once.take_rest(_messages()[seen:])
    for message in _messages():
        one_by_one.take(message.key, message.value, _digest(message.value))
    assert at_once == one_by_one


@pytest.mark.parametrize(
    ("count", "body_key", "body_at", "then", "is_body_stranger"),
    [
        (3, _key(0, OTHER), 1000, StoredMessage(9, _key(1), b"", 1000), True),
        (3, _key(0, OTHER), 1000, StoredMessage(9, _key(1, OTHER), b"", 1000), False),
        (3, _key(0, OTHER), 1000, StoredMessage(9, OTHER, b"", 1000), False),
        (1, _key(5, OTHER), 1000, StoredMessage(9, b"x" * 16, b"", 1000), True),
        (1, _key(0, OTHER), 2000, StoredMessage(9, b"x" * 16, b"", 2000), True),
        (1, _key(0, OTHER), 500, StoredMessage(9, b"x" * 16, b"", 2000), False),
        (1, _key(0, OTHER), 1000, StoredMessage(9, OTHER, b"", 1000), True),
        (1, _key(0, OTHER), 1000, StoredMessage(9, b"x" * 16, b"", 1000), False),
        (3, _key(5, OTHER), 1000, None, True),
        (3, _key(0, OTHER), 2000, None, True),
    ],
    ids=[
        "the manifest's body 1 follows",
        "a body of the other batch follows",
        "body 1 does not follow",
        "not a body 0",
        "appended later than the manifest",
        "appended earlier than the manifest",
        "the other batch's manifest follows",
        "nothing tells",
        "end, not a body 0",
        "end, appended later",
    ],
)
def test_a_doubt_names_the_stranger(
    count: int, body_key: bytes, body_at: int, then: StoredMessage | None, is_body_stranger: bool
) -> None:
    """The message behind both decides, then the size of the batch, then the append times."""
    doubt = Doubt(_pending(BODIES[:count]), StoredMessage(8, body_key, b"\x02foreign", body_at))
    assert doubt.is_body_stranger(then) is is_body_stranger
