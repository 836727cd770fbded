"""Write the function that encodes values of a schema.

Each ``_encode…`` adds lines that check a value, and returns the expressions whose bytes, joined, encode the
value. ``v`` is the name of the variable that holds the value. Checks are on the exact type, ``type(v) is
int`` and not ``isinstance``, since True is an int for Python.
"""

from __future__ import annotations

from broker.avro.shape import (
    Array,
    Enum,
    Fixed,
    Primitive,
    Record,
    Shape,
    Union,
    kind_of,
    tag_of,
    tagged_branches,
)
from broker.avro.source import SMALL, Index, Path, Source, long_to_bytes

__all__ = ["write_encoder"]

_INT = {"int": 1 << 31, "long": 1 << 63}


def write_encoder(source: Source, shape: Shape) -> None:
    """Add the function ``encode(v)`` to the source."""
    with source.block("def encode(v):"):
        with source.block("try:"):
            source.line(f"return {_joined(_encode(source, shape, 'v', ()))}")
        with source.block("except Exception as error:"):
            source.line("raise unencodable(error) from None")


def _joined(parts: list[str]) -> str:
    if not parts:
        return "b''"
    return " + ".join(parts) if len(parts) < 4 else f"join(({', '.join(parts)}))"


def _encode(source: Source, shape: Shape, v: str, path: Path) -> list[str]:
    match shape:
        case Primitive(kind="null"):
            source.line(f"if {v} is not None: raise Wrong", path, "None", v)
            return []
        case Primitive(kind="boolean"):
            return [_encode_boolean(source, v, path)]
        case Primitive(kind="int" | "long" as kind):
            return [_encode_integer(source, _INT[kind], kind, v, path)]
        case Primitive(kind="bytes"):
            source.line(f"if type({v}) is not bytes: raise Wrong", path, "bytes", v)
            return [_encode_size(source, v), v]
        case Primitive():
            text = source.name("s")
            source.line(f"{text} = str_encode({v})", path, "str", v)
            return [_encode_size(source, text), text]
        case Fixed(size=size):
            wrong = f"if type({v}) is not bytes or len({v}) != {size}: raise Wrong"
            source.line(wrong, path, f"{size} bytes", v)
            return [v]
        case Enum():
            return [_encode_enum(source, shape, v, path)]
        case Array():
            return [_encode_array(source, shape, v, path)]
        case Union():
            return [_encode_union(source, shape, v, path)]
        case Record():
            return _encode_record(source, shape, v, path)


def _encode_boolean(source: Source, v: str, path: Path) -> str:
    out = source.name("e")
    source.line(f"if {v} is True: {out} = b'\\x01'")
    source.line(f"elif {v} is False: {out} = b'\\x00'")
    source.line("else: raise Wrong", path, "True or False", v)
    return out


def _encode_integer(source: Source, limit: int, kind: str, v: str, path: Path) -> str:
    out = source.name("e")
    expected = f"int within the range of an Avro {kind}"
    source.line(f"if type({v}) is not int: raise Wrong", path, expected, v)
    source.line(f"if -64 <= {v} < 64: {out} = ONE[{v}]")
    source.line(f"elif {-limit} <= {v} < {limit}: {out} = long_bytes({v})")
    source.line("else: raise Wrong", path, expected, v)
    return out


def _encode_size(source: Source, v: str) -> str:
    size = source.name("n")
    source.line(f"{size} = len({v})")
    source.line(f"{size} = SIZE[{size}] if {size} < {SMALL} else long_bytes({size})")
    return size


def _encode_enum(source: Source, shape: Enum, v: str, path: Path) -> str:
    table = source.constant({symbol: long_to_bytes(i) for i, symbol in enumerate(shape.symbols)})
    out = source.name("e")
    source.line(f"{out} = {table}[{v}]", path, f"one of {', '.join(shape.symbols)}", v)
    return out


def _encode_array(source: Source, shape: Array, v: str, path: Path) -> str:
    out = source.name("e")
    parts = source.name("a")
    item = source.name("v")
    kind = "tuple" if source.types else "list"
    source.line(f"if type({v}) is not {kind}: raise Wrong", path, kind, v)
    with source.block(f"if {v}:"):
        source.line(f"{parts} = [{_encode_size(source, v)}]")
        index = Index(parts, before=1)
        with source.block(f"for {item} in {v}:"):
            encoded = _encode(source, shape.items, item, (*path, index))
            # Only now is it known how many parts an item has; errors compute the item's index from that.
            index.each = len(encoded)
            source.line(f"{parts} += ({', '.join(encoded)},)")
        source.line(f"{parts}.append(b'\\x00')")
        source.line(f"{out} = join({parts})")
    source.line(f"else: {out} = b'\\x00'")
    return out


def _encode_record(source: Source, shape: Record, v: str, path: Path) -> list[str]:
    found = source.types.get(shape.name)
    parts: list[str] = []
    if found:
        source.line(f"if type({v}) is not {source.constant(found)}: raise Wrong", path, found.__name__, v)
    else:
        known = frozenset(field.name for field in shape.fields)
        source.line(f"if type({v}) is not dict: raise Wrong", path, f"dict for record {shape.name}", v)
    for field in shape.fields:
        value = source.name("v")
        at = (*path, f".{field.name}")
        if found:
            source.line(f"{value} = {v}.{field.name}", at, "an attribute", v)
        else:
            source.line(f"{value} = {v}[{field.name!r}]", at, "a field", v)
        parts += _encode(source, field.shape, value, at)
    # All known fields were found above, so a dict of another length has a field that the record lacks.
    if not found:
        expected = f"only the fields {', '.join(sorted(known))}"
        source.line(f"if len({v}) != {len(known)}: raise Wrong", path, expected, v)
    return parts


def _encode_union(source: Source, shape: Union, v: str, path: Path) -> str:
    out = source.name("e")
    kind = source.name("t")
    tagged = tagged_branches(shape, source.types)
    # A union of null and one other branch needs no test of the type: that branch's own encoding checks it.
    plain = [i for i, branch in enumerate(shape.branches) if not tagged[i][0] and kind_of(branch) != "null"]
    alone = len(plain) == 1 and not any(tag for tag, _ in tagged)
    word = "if"
    if not alone:
        source.line(f"{kind} = type({v})")
    for i, branch in enumerate(shape.branches):
        if kind_of(branch) == "null":
            test = f"{v} is None"
        elif tagged[i][0]:
            test = f"{kind} is tuple and len({v}) == 2 and {v}[0] == {tag_of(branch)!r}"
        elif alone:
            continue
        else:
            test = f"{kind} is {source.constant(tagged[i][1])}"
        with source.block(f"{word} {test}:"):
            _encode_branch(source, i, branch, (v, out), path, tagged=tagged[i][0])
        word = "elif"
    if alone:
        with source.block("else:" if word == "elif" else "if True:"):
            _encode_branch(source, plain[0], shape.branches[plain[0]], (v, out), path, tagged=False)
    else:
        names = ", ".join(
            f"({tag_of(branch)!r}, value)" if tagged[i][0] else tagged[i][1].__name__
            for i, branch in enumerate(shape.branches)
        )
        source.line("else: raise Wrong" if word == "elif" else "raise Wrong", path, f"one of {names}", v)
    return out


def _encode_branch(
    source: Source, index: int, branch: Shape, variables: tuple[str, str], path: Path, *, tagged: bool
) -> None:
    v, out = variables
    if tagged:
        value = source.name("v")
        source.line(f"{value} = {v}[1]")
        v = value
    prefix = repr(long_to_bytes(index))
    if kind_of(branch) == "null":
        source.line(f"{out} = {prefix}")
    else:
        source.line(f"{out} = {_joined([prefix, *_encode(source, branch, v, path)])}")
