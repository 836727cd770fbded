"""The services of a coalition: programs that run for everybody and are trusted with one thing each.

    key_access   a profile opened together with the key access service that it names
    kas          the key access service

This room holds the services themselves, what every service has in common (such as an HTTP server), and the
clients by which participants reach a service over the network: a client of the key access service
implements ``broker.access.client.KeyAccess``, as the service in this process does, so its callers do not
change. What a service and its callers must understand alike is pure, and stands in ``access`` or below.
Publishers, subscribers and auditors never import a service; only ``cli`` and ``key_access`` choose one.
"""

__all__: list[str] = []
