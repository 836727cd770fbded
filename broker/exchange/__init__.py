"""Publishing to and subscribing from a log."""

from broker.exchange.asking import Ground
from broker.exchange.publisher import Publisher
from broker.exchange.subscriber import Delivered, NotDelivered, Subscriber
from broker.exchange.tickets import Published

__all__ = ["Delivered", "Ground", "NotDelivered", "Published", "Publisher", "Subscriber"]
