"""Cases of partitions: their messages and their root."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from broker.crypto.merkle import root_of_leaves
from broker.wire.log_leaf import HOLE, message_leaf
from vectors.cases import Case, fails, flip, valid

__all__ = ["cases"]

_Message = dict[str, object]
_AT = 1_767_225_600_123


def _message(key: bytes | None, value: bytes | None, at: int = _AT) -> _Message:
    return {"key": key, "value": value, "appended_at": at}


def _root(messages: Sequence[_Message | None]) -> bytes:
    leaves = []
    for message in messages:
        if message is None:
            leaves.append(HOLE)
            continue
        key, value, at = message["key"], message["value"], message["appended_at"]
        assert isinstance(at, int)
        assert key is None or isinstance(key, bytes)
        digest = sha256(value).digest() if isinstance(value, bytes) else None
        leaves.append(message_leaf(at * 1000, key, digest))
    return root_of_leaves(leaves)


_MANY: list[_Message | None] = [_message(b"%d" % i, bytes(i), _AT + i // 3) for i in range(131)]
_GOOD: list[_Message | None] = [_message(b"k", b"v"), _message(b"l", b"w", _AT + 1), _message(b"", b"")]


def cases() -> list[Case]:
    """Every case of a partition."""
    right: list[tuple[str, str, list[_Message | None]]] = [
        ("empty", "no message", []),
        ("one", "one message", _GOOD[:1]),
        ("three", "three messages", _GOOD),
        ("many", "131 messages", _MANY),
        ("key-null", "a null key", [_message(None, b"v")]),
        ("key-empty", "an empty key", [_message(b"", b"v")]),
        ("value-null", "a null value", [_message(b"k", None)]),
        ("value-empty", "an empty value", [_message(b"k", b"")]),
        ("both-null", "a null key and a null value", [_message(None, None)]),
        ("hole", "an offset at which the log holds nothing", [_GOOD[0], None, _GOOD[2]]),
        ("time-zero", "the first time there is", [_message(b"k", b"v", 0)]),
        ("time-last", "the last time that counts", [_message(b"k", b"v", 2**53)]),
        ("time-fell", "a message with an earlier time than the one before", [_GOOD[1], _GOOD[0]]),
    ]
    ahead, before = [_message(b"k", b"v", 2**53 + 1)], [_message(b"k", b"v", -1)]
    zero = _root([_message(b"k", b"v", 0)])
    made = [
        valid(name, what, {"messages": messages, "root": _root(messages)}) for name, what, messages in right
    ]
    made += [
        valid("time-beyond", "a time beyond 2^53 counts as 0", {"messages": ahead, "root": zero}),
        valid("time-negative", "a negative time counts as 0", {"messages": before, "root": zero}),
    ]
    root = _root(_GOOD)
    changed: list[tuple[str, str, list[_Message | None]]] = [
        ("re-dated", "a time one millisecond later", [_message(b"k", b"v", _AT + 1), *_GOOD[1:]]),
        ("key-made-null", "an empty key made null", [*_GOOD[:2], _message(None, b"")]),
        ("value-made-null", "an empty value made null", [*_GOOD[:2], _message(b"", None)]),
        ("value-changed", "a bit of a value changed", [_message(b"k", flip(b"v")), *_GOOD[1:]]),
        ("key-changed", "a bit of a key changed", [_message(flip(b"k"), b"v"), *_GOOD[1:]]),
        ("moved-border", "a byte moved from the value to the key", [_message(b"kv", b""), *_GOOD[1:]]),
        ("exchanged", "two messages exchanged", [_GOOD[1], _GOOD[0], _GOOD[2]]),
        ("copied-over", "a message copied over its neighbour", [_GOOD[0], _GOOD[0], _GOOD[2]]),
        ("cut", "the last message cut off", _GOOD[:2]),
        ("closed-up", "a message taken out, the others moved up", [_GOOD[0], _GOOD[2]]),
        ("deleted", "a message deleted, its offset left", [_GOOD[0], None, _GOOD[2]]),
        ("added", "a message behind the last", [*_GOOD, _GOOD[0]]),
    ]
    made += [
        fails(name, what, {"messages": messages, "root": root}, "root", "OpenError")
        for name, what, messages in changed
    ]
    return made
