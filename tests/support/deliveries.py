"""What a subscriber was given, looked at: which records, in which order, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.subscribe.subscriber import Delivered, Delivery
from broker.verify.violations import Violation

__all__ = ["delivered_refs", "numbered", "only", "ref_of"]


def ref_of(number: int) -> str:
    """The reference of the person in record ``number``."""
    return f"6f9619ff-8b86-4011-b42d-{number:012x}"


def numbered(item: Delivery) -> int:
    """The number of a delivered record, as ``ref_of`` gave it; fails for an item that is no record."""
    assert isinstance(item, Delivered), item
    return int(str(item.record.body["subject"]["ref"]).rpartition("-")[2], 16)


def delivered_refs(items: Sequence[Delivery]) -> list[int]:
    """The numbers of the records that were delivered, in order."""
    return [numbered(item) for item in items if isinstance(item, Delivered)]


def only(items: Sequence[Delivery], kind: type[Any] = Violation) -> list[Any]:
    """The items of this class."""
    return [item for item in items if isinstance(item, kind)]
