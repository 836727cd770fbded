"""Code lists: words that standards bodies maintain, each list with its version and its source.

A list is one JSON file in ``schemas/codes/``:

=========================================  ==========================================================
``list``, ``version``, ``source``          the list's name, its version, and who maintains it
``codes``                                  each code with its meaning
``note`` (optional)                        a remark for people
``patterns`` (optional)                    regular expressions for further codes, with their meaning
``except`` (optional)                      codes that a pattern must not let through
``includes`` (optional)                    other lists whose codes belong to this one, with a ``prefix``
=========================================  ==========================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from broker.avro.schema_file import schemas_folder
from broker.errors import UsageError

__all__ = ["CodeList", "code_lists", "load_code_lists"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeList:
    """A versioned list of codes and their meanings."""

    name: str
    version: str
    source: str
    codes: Mapping[str, str]
    pattern: re.Pattern[str] | None
    """Codes that are not listed one by one, such as the user-assigned ones of ISO 3166-1."""
    exceptions: frozenset[str]

    def __contains__(self, code: str) -> bool:
        """Tell whether the code is listed; letter case counts."""
        if code in self.codes:
            return True
        # Exceptions are taken from the patterns only: a code that is listed by itself is meant.
        return self.pattern is not None and code not in self.exceptions and bool(self.pattern.fullmatch(code))

    def nearest(self, code: str) -> str | None:
        """Return the listed code that is most like a wrong one, for a message; None where no code is similar.

        A meaning counts too: a clerk who writes ``France`` is told ``FRA``.
        """
        upper = code.upper()[:64]  # the search below takes time that grows with the square of the length
        if upper in self:
            return upper
        # Whole meanings are compared before similar codes: a name of a state is no typing error of a code.
        named = [listed for listed, meaning in self.codes.items() if meaning.upper() == upper]
        # The cutoff is higher than for words (0.6 in broker.records.words): short codes resemble each other,
        # and a wrong suggestion is worse than none.
        return next(iter(named or get_close_matches(upper, self.codes, n=1, cutoff=0.75)), None)


def load_code_lists(*folders: Path) -> Mapping[str, CodeList]:
    """Read every list in the folders.

    Raises UsageError, with the file's name, for a file that is not a code list, or for a list that exists
    already.
    """
    raw: dict[str, dict[str, Any]] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        try:
            # No limit on the size, on purpose: the folder belongs to the installation, and a person who can
            # write to it can change the rules themselves.
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["list"] in raw:
                raise ValueError(f"the list {content['list']!r} exists already")
            raw[content["list"]] = content
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise UsageError(f"code list {str(path)!r} cannot be read: {problem}") from problem
    return MappingProxyType({name: _built(name, raw, ()) for name in raw})


@cache
def code_lists(folder: Path | None = None) -> Mapping[str, CodeList]:
    """Return the lists that come with the broker, and those in ``codes/`` below a folder of record types."""
    # The answer is kept until the process ends. A list that is changed on disk counts from the next start.
    own = schemas_folder() / "codes"
    added = folder / "codes" if folder else own
    if added == own or not added.is_dir():
        return load_code_lists(own)
    return load_code_lists(own, added)


def _built(name: str, raw: Mapping[str, dict[str, Any]], within: tuple[str, ...]) -> CodeList:
    """Build one list; ``within`` are the lists that include it, so that a circle ends in an error."""
    if name in within or name not in raw:
        raise UsageError(f"code list {name!r} includes itself or does not exist")
    content = raw[name]
    try:
        codes = dict(content["codes"])
        patterns = [*content.get("patterns", ())]
        exceptions = set(content.get("except", ()))
        for include in content.get("includes", ()):
            other = _built(include["list"], raw, (*within, name))
            prefix = include.get("prefix", "")
            codes |= {prefix + code: meaning for code, meaning in other.codes.items()}
            exceptions |= {prefix + code for code in other.exceptions}
            if other.pattern is not None:
                # In a group, so that the prefix stands before every alternative and not only the first.
                patterns.append(f"{re.escape(prefix)}(?:{other.pattern.pattern})")
        pattern = "|".join(f"(?:{each})" for each in patterns)
        return CodeList(
            name=name,
            version=content["version"],
            source=content["source"],
            codes=MappingProxyType(codes),
            pattern=re.compile(pattern, re.ASCII) if patterns else None,
            exceptions=frozenset(exceptions),
        )
    except (KeyError, TypeError, AttributeError, re.error) as problem:
        raise UsageError(f"code list {name!r} lacks something: {problem}") from problem
