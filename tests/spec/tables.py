"""The tables of the specification that say what the schema files say: ``python -m spec.tables`` in tests/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["BEGIN", "END", "SPECIFICATION", "main", "tables"]

SPECIFICATION = Path(__file__).parents[2] / "schemas" / "README.md"
PROTOCOL = SPECIFICATION.parent / "protocol"
BEGIN, END = "<!-- schemas: begin -->\n", "<!-- schemas: end -->\n"

_SPACE = "ftf.protocol."


def _type(schema: Any) -> str:
    if isinstance(schema, str):
        return schema.removeprefix(_SPACE)
    if isinstance(schema, list):
        return " or ".join(_type(branch) for branch in schema)
    if schema["type"] == "array":
        return f"[{_type(schema['items'])}]"
    return f"{schema['type']} ({schema['logicalType']})"


def _record(schema: dict[str, Any]) -> str:
    kind = f", kind `{schema['kind']}`" if "kind" in schema else ""
    lines = [f"**{schema['name']}**{kind}: {schema['doc']}.", "", "| field | type | what |", "|---|---|---|"]
    lines += [f"| {field['name']} | {_type(field['type'])} | {field['doc']} |" for field in schema["fields"]]
    return "\n".join(lines).replace("<", "&lt;")


def _small(schema: dict[str, Any]) -> str:
    what = f"fixed, {schema['size']} bytes" if schema["type"] == "fixed" else ", ".join(schema["symbols"])
    return f"| {schema['name']} | {what} | {schema['doc']} |"


def tables() -> str:
    """Every kind, message and shared type, from the schema files."""
    top = [json.loads(path.read_text()) for path in sorted(PROTOCOL.glob("*.avsc"))]
    types = [json.loads(path.read_text()) for path in sorted((PROTOCOL / "types").glob("*.avsc"))]
    signed = [_record(schema) for schema in top if "kind" in schema]
    plain = [_record(schema) for schema in top if "kind" not in schema]
    shared = [_record(schema) for schema in types if schema["type"] == "record"]
    small = [_small(schema) for schema in types if schema["type"] != "record"]
    parts = ["### Signed contents", *signed, "### What is encoded alone, and never signed as it is", *plain]
    parts += ["### Shared records", *shared, "### Enums, in the order of their symbols, and fixed types"]
    return "\n\n".join([*parts, "\n".join(["| type | values | what |", "|---|---|---|", *small])]) + "\n"


def main() -> None:
    """Write the tables into the specification."""
    text = SPECIFICATION.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    SPECIFICATION.write_text(f"{before}{BEGIN}{tables()}{END}{after}")


if __name__ == "__main__":
    main()
