"""The key access service (KAS): it logs durably who reads what and why, and only then releases.

A request enters in ``service``, is answered in ``steps``, and leaves in ``release``.

    service           the running service: its two questions, and following all channels
    steps             the steps by which a request is answered, in their order
    view              what the service knew of a channel when it decided
    release           the shares of allowed records, and the sealed answer
    log_range         a range of the access log, as an answer carries it
    channel_service   one channel at work: read, taken over, written to, stopped
    channel_state     what the logs say of one channel
    denials           requests that were wholly denied, counted by the minute
    entries           access entries, as they are written
    repair            access entries that somebody cut off the log, to be put back
    custody           taking a batch over, and what is held of it in ftf.keys
    journal           what must be in the access log, and alarms
    keystore          the keys that the service keeps for itself
    resources         what all channels of the service share
    local             the service inside this process, opened with its own profile
"""

__all__: list[str] = []
