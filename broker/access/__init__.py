"""Accountable reading: what a reader and the key access service say to each other, and how it is decided.

    client          the protocol by which a reader asks: ``KeyAccess``
    requests        access requests and collection queries, as they are made
    request_checks  the checks that a request must pass before it is judged
    policy          the decision about one record
    decisions       the decision about a whole request
    record_states   what became of each record of a channel
    late_entries    messages that were cut off the access log and put back
    answers         receipts and shares, as they are made, opened and checked
    log_evidence    entries of the access log, as an answer carries them

Every module but ``client`` is pure: values go in, values or errors come out, and the time is a
parameter. So the auditor's replay decides again, years later, with the very functions with which the
service decided. Nothing that reads a log, a file or a clock may be in this room: the service itself is
``broker.services.kas``, and a client of it over the network belongs to ``broker.services`` too.
"""

__all__: list[str] = []
