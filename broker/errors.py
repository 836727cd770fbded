"""Every error that this package raises on purpose, sorted by who must act.

    BrokerError
    ├── UsageError            the caller must act: an argument, a file or a setting is wrong    exit 2
    │   ├── RecordInvalid     a record breaks rules; the error lists all of them
    │   └── KeyFileError      a key file cannot be used as it is
    ├── PeerError             a peer must act: it sent something that must not be believed      exit 1
    │   ├── FormatError       bytes that are not what the format says
    │   ├── SignatureInvalid  a signature that is missing, wrong or by the wrong key
    │   ├── OpenError         a seal or a lock that does not open, or a commitment that differs
    │   ├── NotEntitled       a valid signature of somebody who may not say this
    │   └── RequestRefused    a request that cannot be judged at all (stale, malformed)
    ├── Denied                nobody failed: the answer is no                                   exit 1
    └── OperatorError         an operator must act: something outside this process failed       exit 3
        ├── LogUnavailable    the log cannot be reached or refuses
        │   └── LogUnreachable    it cannot do it now and may do it later: a follower waits for it
        ├── KasUnavailable    the key access service cannot be reached
        │   └── KasStopped    it has stopped releasing until its operator has looked into an alarm
        └── OutcomeUnknown    an append that may or may not have happened

Messages are lower case, without a full stop, and quote the offending value.
A ``hint`` says what to do next; the command line prints it below the error.
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "Denied",
    "FormatError",
    "KasStopped",
    "KasUnavailable",
    "KeyFileError",
    "LogUnavailable",
    "LogUnreachable",
    "NotEntitled",
    "OpenError",
    "OperatorError",
    "OutcomeUnknown",
    "PeerError",
    "RecordInvalid",
    "RequestRefused",
    "SignatureInvalid",
    "UsageError",
]


class BrokerError(Exception):
    """The base of every error that this package raises on purpose."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BrokerError):
    """The caller gave something that cannot be used; nothing was done."""

    exit_code = 2


class RecordInvalid(UsageError):
    """A record breaks rules; ``problems`` has one sentence for each, with the path of the field."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyFileError(UsageError):
    """A key file is missing, readable by others, or does not open with this passphrase."""


class PeerError(BrokerError):
    """A peer sent something that must not be believed."""

    exit_code = 1


class FormatError(PeerError):
    """Bytes that are not what the format says they are."""


class SignatureInvalid(PeerError):
    """A signature that is missing, wrong, or made by the wrong key."""


class OpenError(PeerError):
    """A seal or a lock that does not open, or a commitment that differs."""


class NotEntitled(PeerError):
    """A valid signature of somebody who may not say this."""


class RequestRefused(PeerError):
    """A request that cannot be judged at all, since it is stale, malformed or for another coalition."""


class Denied(BrokerError):
    """Access was denied; ``reason`` is the word of the decision."""

    exit_code = 1

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"access denied: {reason}", hint=hint)
        self.reason = reason


class OperatorError(BrokerError):
    """Something outside this process failed."""

    exit_code = 3


class LogUnavailable(OperatorError):
    """The log cannot be reached, or refuses to do what was asked."""


class LogUnreachable(LogUnavailable):
    """The log did not answer in time, or is not able to do it now: the same call may succeed later."""


class KasUnavailable(OperatorError):
    """The key access service cannot be reached, or has stopped releasing."""


class KasStopped(KasUnavailable):
    """The key access service has stopped releasing until its operator acknowledges an alarm.

    It is of no use to ask again before that.
    """


class OutcomeUnknown(OperatorError):
    """An append whose acknowledgement was lost: reading the log's tail tells what became of it."""
