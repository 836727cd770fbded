"""Every error that this package raises on purpose, sorted by who must act.

    BrokerError
    ├── UsageError            the caller must act: an argument, a file or a setting is wrong    exit 2
    │   ├── RecordInvalid         a record breaks rules; the error lists all of them
    │   ├── BatchVoid             a batch is in the log, and every reader passes over it
    │   └── KeyFileError          a key file cannot be used as it is
    ├── PeerError             a peer must act: it sent something that must not be believed      exit 1
    │   ├── FormatError           bytes do not follow the format
    │   ├── SignatureInvalid      a signature is missing, wrong or by the wrong key
    │   ├── OpenError             a seal or a lock does not open, or a commitment differs
    │   ├── NotEntitled           a valid signature comes from somebody who may not say this
    │   └── RequestRefused        a request cannot be judged at all (it is stale or malformed)
    │       └── OtherLogRead          its issuer has read another log than the key access service
    ├── OperatorError         an operator must act: something outside this process failed       exit 3
    │   ├── LogUnavailable        the log cannot be reached, or refuses
    │   │   ├── LogForked             it is another log than the one that was read
    │   │   └── LogUnreachable        it cannot do it now and may do it later: a follower waits for it
    │   ├── KasUnavailable        the key access service cannot be reached
    │   │   └── KasStopped            it has stopped until its operator has looked into an alarm
    │   └── OutcomeUnknown        an append may or may not have happened
    └── Denied                nobody must act: nothing failed, and the answer is no             exit 1

We must act on any other exception that reaches a caller: it is a bug of this package.

Messages are lower case, without a full stop, and quote the offending value.
A ``hint`` says what to do next; the command line prints it below the error.
"""

from __future__ import annotations

__all__ = [
    "BatchVoid",
    "BrokerError",
    "Denied",
    "FormatError",
    "KasStopped",
    "KasUnavailable",
    "KeyFileError",
    "LogForked",
    "LogUnavailable",
    "LogUnreachable",
    "NotEntitled",
    "OpenError",
    "OperatorError",
    "OtherLogRead",
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
    """The caller gave something that cannot be used, and nothing was done."""

    exit_code = 2


class RecordInvalid(UsageError):
    """A record breaks rules; ``problems`` has a sentence for each of them, with the path of the field."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BatchVoid(UsageError):
    """A batch is in the log, and every reader passes over it: its records must be published again."""


class KeyFileError(UsageError):
    """A key file is missing, readable by others, or does not open with this passphrase."""


class PeerError(BrokerError):
    """A peer sent something that must not be believed."""

    exit_code = 1


class FormatError(PeerError):
    """Bytes do not follow the format that they should have."""


class SignatureInvalid(PeerError):
    """A signature is missing, wrong, or made by the wrong key."""


class OpenError(PeerError):
    """A seal or a lock does not open, or its content differs from what was committed to."""


class NotEntitled(PeerError):
    """A signature is valid, but its signer may not say this."""


class RequestRefused(PeerError):
    """A request cannot be judged at all: it is stale, malformed or for another coalition."""


class OtherLogRead(RequestRefused):
    """The issuer of a request has read another log than the key access service."""


class Denied(BrokerError):
    """The key access service denied access; ``reason`` is the word of its decision."""

    exit_code = 1

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"access denied: {reason}", hint=hint)
        self.reason = reason


class OperatorError(BrokerError):
    """Something outside this process failed, and its operator must look at it."""

    exit_code = 3


class LogUnavailable(OperatorError):
    """The log cannot be reached, or refuses to do what was asked."""


class LogUnreachable(LogUnavailable):
    """The log did not answer in time, or cannot do it now: the same call may succeed later."""


class LogForked(LogUnavailable):
    """The log is another than the one that was read before: it was cut, restored, replaced or altered."""


class KasUnavailable(OperatorError):
    """The key access service cannot be reached, or has stopped releasing."""


class KasStopped(KasUnavailable):
    """The key access service has stopped releasing until its operator acknowledges an alarm.

    It is of no use to ask again before that.
    """


class OutcomeUnknown(OperatorError):
    """The log did not acknowledge an append: its tail tells whether the messages were added."""
