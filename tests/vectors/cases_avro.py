"""Vectors of strict Avro: one value, one encoding."""

from __future__ import annotations

from broker.wire.encoding import encode
from vectors.cases import Case, fails, valid
from vectors.coalition import header, record_terms

__all__ = ["cases"]

_PAIR = {
    "type": "record",
    "name": "Pair",
    "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": {"type": "array", "items": "long"}}],
}
_SWITCH = {"type": "enum", "name": "Switch", "symbols": ["ON", "OFF"]}
_CHOICE = ["null", "string", "long"]


def _good() -> list[Case]:
    return [
        valid("header", "a header as it stands in a manifest", {"type": "Header", "data": encode(header())}),
        valid("terms", "the terms of a record", {"type": "RecordTerms", "data": encode(record_terms())}),
        valid("least-int", "the least int", {"schema": "int", "data": "ffffffff0f"}, {"value": -(2**31)}),
        valid("greatest-long", "the greatest long", {"schema": "long", "data": "feffffffffffffffff01"},
              {"value": 2**63 - 1}),
        valid("empty-array", "an empty array is a single zero", {"schema": _PAIR, "data": "0200"},
              {"value": {"a": 1, "b": []}}),
        valid("array", "an array is one block and a zero", {"schema": _PAIR, "data": "0204020400"},
              {"value": {"a": 1, "b": [1, 2]}}),
        valid("text", "text is UTF-8, counted in bytes", {"schema": "string", "data": "06e282ac"},
              {"value": "€"}),
        valid("no-text", "empty text", {"schema": "string", "data": "00"}, {"value": ""}),
        valid("branch", "the second branch of a union", {"schema": _CHOICE, "data": "020261"},
              {"value": "a"}),
        valid("symbol", "the last symbol of an enum", {"schema": _SWITCH, "data": "02"}, {"value": "OFF"}),
    ]  # fmt: skip


_BAD = [
    ("nothing", "no bytes at all", "int", ""),
    ("trailing", "a byte behind the value", "int", "0200"),
    ("truncated", "an integer that goes on", "int", "80"),
    ("overlong-int", "zero in two bytes", "int", "8000"),
    ("overlong-length", "a length in more bytes than it needs", "string", "820061"),
    ("int-of-33-bits", "an int beyond 32 bits", "int", "8080808010"),
    ("long-of-65-bits", "a long beyond 64 bits", "long", "feffffffffffffffff03"),
    ("long-of-eleven-bytes", "a long that does not end", "long", "8080808080808080808001"),
    ("boolean", "a boolean of 2", "boolean", "02"),
    ("symbol-beyond", "an enum's index beyond its symbols", _SWITCH, "04"),
    ("symbol-negative", "an enum's index of -1", _SWITCH, "01"),
    ("branch-beyond", "a union's index beyond its branches", _CHOICE, "0600"),
    ("branch-negative", "a union's index of -1", _CHOICE, "0100"),
    ("length-negative", "text of -1 bytes", "string", "01"),
    ("length-beyond", "text that is longer than the message", "string", "1461"),
    ("length-of-terabytes", "a length that would exhaust memory", "bytes", "8080808080808001"),
    ("no-utf8", "text that is not UTF-8", "string", "02ff"),
    ("overlong-utf8", "a zero in two bytes of UTF-8", "string", "04c080"),
    ("surrogate", "half a surrogate pair", "string", "06eda080"),
    ("two-blocks", "an array in two blocks", _PAIR, "020202020400"),
    ("block-with-size", "an array whose block states its size", _PAIR, "0201020200"),
    ("no-end-of-array", "an array without its zero", _PAIR, "020202"),
    ("items-beyond", "an array of twenty million items and no bytes for them", _PAIR, "0280b48913"),
    ("fixed-short", "a fixed that ends early", {"type": "fixed", "name": "F", "size": 4}, "010203"),
]


def cases() -> list[Case]:
    """Every case of strict Avro."""
    bad = [
        fails(name, what, {"schema": schema, "data": data}, "avro", "FormatError")
        for name, what, schema, data in _BAD
    ]
    terms = encode(record_terms())
    bad += [
        fails("terms-trailing", "a byte behind the terms of a record",
              {"type": "RecordTerms", "data": terms + b"\0"}, "avro", "FormatError"),
        fails("terms-truncated", "the terms of a record without their last byte",
              {"type": "RecordTerms", "data": terms[:-1]}, "avro", "FormatError"),
        fails("terms-action", "an action that does not exist",
              {"type": "RecordTerms", "data": b"\x0a" + terms[1:]}, "avro", "FormatError"),
    ]  # fmt: skip
    return _good() + bad
