"""Statements in words: whoever signs one sees every field of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.crypto.seal import PUBLIC_BYTES
from broker.show.statement_fields import statement_fields
from broker.show.statement_text import statement_text
from broker.wire.encoding import STATEMENT_KINDS
from broker.wire.statements import KeyUse
from support.coalition import POLICE_A, Coalition

_LONG = ("receiving_key", "metadata_key", "content_key", "access_key")


def _made(name: str, hint: Any) -> Any:
    """A value of a field of this type: the smallest that has each of its parts."""
    arguments = get_args(hint)
    if is_dataclass(hint):
        return hint(**{name: _made(name, part) for name, part in get_type_hints(hint).items()})  # type: ignore[operator]
    if arguments and type(None) in arguments:
        return _made(name, next(part for part in arguments if part is not type(None)))
    if arguments:
        return (_made(name, arguments[0]),)
    if issubclass(hint, Enum):
        return next(iter(hint))
    if hint is bytes:
        return bytes(PUBLIC_BYTES if name in _LONG else 1100 if name == "sealed" else 32)
    return hint()


def _changed(name: str, hint: Any, value: Any) -> Iterator[Any]:
    """Values of the same type that differ from this one in one part."""
    arguments = get_args(hint)
    if is_dataclass(hint):
        for part, kind in get_type_hints(hint).items():
            for other in _changed(part, kind, getattr(value, part)):
                yield replace(value, **{part: other})
        return
    if arguments and type(None) in arguments:
        yield None
        yield from _changed(name, next(part for part in arguments if part is not type(None)), value)
    elif arguments:
        yield ()
        yield (*value, *value)
        for other in _changed(name, arguments[0], value[0]):
            yield (other,)
            yield (*value, other)
            yield (other, *value)
    elif issubclass(hint, Enum):
        yield from (other for other in hint if other is not value)
    elif hint is bytes:
        yield from (bytes([1]) + value[1:], value[:-1] + b"\1")
    elif hint is bool:
        yield not value
    elif hint is int:
        yield from (1, -1, 2**62, 1_000_000)
    else:
        yield from ("a", '"', "a, b", "none", "\x1b[2J", "\\u001b[2J", "\u202e", "[bold]")


@pytest.mark.parametrize("cls", STATEMENT_KINDS.values(), ids=STATEMENT_KINDS)
def test_statements_that_differ_differ_in_their_words(cls: type) -> None:
    """Each change of a field, and of a part of a field, changes what the signer is shown."""
    first = _made("", cls)
    made = [first, *_changed("", cls, first)]
    assert {field.name for field in fields(cls)} <= {
        name.split(".")[0].split(" ")[0] for name, _ in statement_fields(first)
    }
    shown = [tuple(statement_fields(statement)) for statement in made]
    assert len(set(shown)) == len(set(made)), cls
    assert all(value.isprintable() for pairs in shown for pair in pairs for value in pair)


@given(one=st.text(max_size=6), other=st.text(max_size=6))
def test_texts_that_differ_differ_on_the_terminal(one: str, other: str) -> None:
    """No text is shown as another text is, whatever it holds."""
    genesis = _made("", STATEMENT_KINDS["genesis"])
    shown = [statement_fields(replace(genesis, coalition=text)) for text in (one, other)]
    assert (shown[0] == shown[1]) is (one == other)


_PUT_IN_FORCE = {
    "genesis": ["coalition", "authority_keys", "threshold"],
    "authority-rotated": ["authority_keys", "threshold"],
    "agency-admitted": ["agency", "name", "signing_key", "receiving_key"],
    "agency-suspended": ["agency", "reason"],
    "agency-reinstated": ["agency"],
    "key-added": ["agency", "use", "public_key", "recovery"],
    "key-retired": ["agency", "key_id", "successor"],
    "key-revoked": ["agency", "key_id", "since"],
    "channel-opened": [
        *("channel", "number", "kind", "members", "auditors", "record_types", "purposes"),
        *("legal_basis", "ceiling_days", "joining", "mandates"),
    ],
    "auditor-appointed": ["auditor", "name", "signing_key", "receiving_key", "channels"],
    "auditor-dismissed": ["auditor", "channels"],
    "service-key-announced": ["service", "role", "use", "public_key", "day"],
}


@pytest.mark.parametrize("kind", _PUT_IN_FORCE)
def test_the_sentence_has_what_a_statement_puts_in_force(kind: str) -> None:
    """Another name, key, threshold, mandate or rule gives another sentence."""
    cls = STATEMENT_KINDS[kind]
    statement = _made("", cls)
    hints = get_type_hints(cls)
    for name in _PUT_IN_FORCE[kind]:
        others = [
            other
            for other in _changed(name, hints[name], getattr(statement, name))
            if other not in (None, ())
        ]
        assert others
        for other in others:
            assert statement_text(replace(statement, **{name: other})) != statement_text(statement), name


def test_a_public_key_is_named_by_the_id_that_the_directory_shows() -> None:
    """The key ids are those that agency key list prints."""
    directory = Coalition.create().directory
    agency = directory.parties[POLICE_A]
    added = _made("", STATEMENT_KINDS["key-added"])
    for key in agency.keys.values():
        if key.use in (KeyUse.SIGNING, KeyUse.RECEIVING):
            pairs = statement_fields(replace(added, use=key.use, public_key=key.public))
            assert dict(pairs)["public_key"] == f"key {key.key_id.hex()}"
