"""Signed, access-logged, replayable exchange of records between agencies.

What a program needs to take part stands here:

    async with open_profile("border/xbb-border.toml") as border, border.subscriber(ground) as subscriber:
        async for item in subscriber.deliveries():
            ...

Everything else is in the rooms of this package, which ``docs/architecture.md`` draws. Importing the package
changes nothing in the program: it configures no logging, and it loads a name only when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.errors import BrokerError
    from broker.publish.publisher import Published, Publisher
    from broker.records.record import Record
    from broker.services.key_access import open_profile
    from broker.session.session import Session
    from broker.subscribe.asking import Ground
    from broker.subscribe.delivery import Delivered, NotDelivered
    from broker.subscribe.subscriber import Subscriber
    from broker.verify.violations import Violation

__all__ = [
    "BrokerError",
    "Delivered",
    "Ground",
    "NotDelivered",
    "Published",
    "Publisher",
    "Record",
    "Session",
    "Subscriber",
    "Violation",
    "open_profile",
]

_HOMES = {
    "BrokerError": "broker.errors",
    "Delivered": "broker.subscribe.delivery",
    "Ground": "broker.subscribe.asking",
    "NotDelivered": "broker.subscribe.delivery",
    "Published": "broker.publish.publisher",
    "Publisher": "broker.publish.publisher",
    "Record": "broker.records.record",
    "Session": "broker.session.session",
    "Subscriber": "broker.subscribe.subscriber",
    "Violation": "broker.verify.violations",
    "open_profile": "broker.services.key_access",
}


# Loaded on use (PEP 562): every module of the package imports this one first, so a real import of the
# rooms here would turn each arrow of the house into a circle, and load cryptography for ``--version``.
def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'broker' has no attribute '{name}'")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
