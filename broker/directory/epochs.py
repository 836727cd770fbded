"""The keys of an epoch, as a recipient opens them from the directory.

A recipient is sealed the halves of a seed, by the member that published the epoch and by the key access
service, or all at once by whoever grants it the epoch later. A half counts only if it fits the commitment
in the directory. One that does not fit, or does not open, is junk, and whoever sealed it is to blame: its
recipient reports it, and complains, so that another member publishes the next epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from broker.crypto.epoch import HALF_BYTES, EpochKeys, epoch_seed, half_commitment
from broker.crypto.seal import ReceivingKey, open_sealed, seed_info
from broker.directory.channel import Epoch, EpochSeed, Offer, Part, Use
from broker.directory.directory import Directory
from broker.directory.issuance import header_for
from broker.errors import NotEntitled, OpenError
from broker.wire.statements import ChannelKeysComplained

__all__ = [
    "EpochKey",
    "JunkHalf",
    "OpenedSeed",
    "check_half",
    "complaint",
    "epoch_keys",
    "open_seed",
]

ReceivingKeys = Mapping[bytes, ReceivingKey]
"""The receiving keys that a party holds, retired ones too, by key id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochKey:
    """The keys of one use of an epoch, which only its recipients can compute.

    They are kept in memory alone, never on disk or in a log.
    """

    channel: str
    epoch: int
    use: Use
    keys: EpochKeys
    halves: bytes
    """All halves of the seed, joined, with which its holder can grant the epoch to others."""

    def __repr__(self) -> str:
        # Without the secrets: a repr ends up in tracebacks and logs.
        return f"EpochKey({self.channel!r}, {self.epoch}, {self.use!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class JunkHalf:
    """What somebody sealed to us, and does not open or does not fit its commitment."""

    channel: str
    epoch: int
    use: Use
    sealer: str
    """Who signed the statement that holds it."""
    statement: bytes
    """The digest of this statement."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSeed:
    """What became of the offers of a seed: its keys, if one offer is right, and the junk among the others."""

    key: EpochKey | None
    junk: tuple[JunkHalf, ...]


def open_seed(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> OpenedSeed:
    """Open the seed of this use that was sealed to ``name``, and check it against the directory.

    Every offer is looked at until one is right, so that junk never hides a good one behind it. Without an
    offer, or without the receiving keys that they are sealed to, there is neither a key nor junk. Raises
    NotEntitled when there is no such channel or epoch.
    """
    found = _find_epoch(directory, channel, epoch)
    seed = found.seed(use)
    junk: list[JunkHalf] = []
    if seed is None:
        return OpenedSeed(key=None, junk=())
    opener = _Opener(directory, channel, found, use, receiving_keys)
    for offer in seed.offers.get(name, ()):
        halves = opener.halves(seed, offer, junk)
        if halves is not None:
            value = epoch_seed(directory.genesis, channel, epoch, use, halves)
            keys = EpochKeys.of(value, directory.genesis)
            key = EpochKey(channel=channel, epoch=epoch, use=use, keys=keys, halves=b"".join(halves))
            return OpenedSeed(key=key, junk=tuple(junk))
    return OpenedSeed(key=None, junk=tuple(junk))


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens what was sealed of one use of an epoch."""

    directory: Directory
    channel: str
    epoch: Epoch
    use: Use
    receiving_keys: ReceivingKeys

    def halves(self, seed: EpochSeed, offer: Offer, junk: list[JunkHalf]) -> list[bytes] | None:
        """Return all halves that this offer gives; None where one is missing, is not for us or is junk."""
        halves: list[bytes] = []
        for part in offer:
            opened = self.part(part, seed.commitments[len(halves) :], junk)
            if opened is None:
                return None
            halves += opened
        # Before the service has confirmed the epoch there is one half of each seed, and no seed.
        is_whole = self.epoch.confirmed_at is not None and len(halves) == len(seed.commitments)
        return halves if is_whole else None

    def part(self, part: Part, commitments: Sequence[bytes], junk: list[JunkHalf]) -> list[bytes] | None:
        """Return the halves in this part; None where it is not for us or is junk."""
        sealed = part.sealed
        key = self.receiving_keys.get(sealed.key_id)
        if key is None:
            return None
        genesis = self.directory.genesis
        info = seed_info(genesis, self.channel, self.epoch.number, self.use, sealed.key_id)
        try:
            plain = open_sealed(key, sealed.sealed, info)
            halves = [plain[at : at + HALF_BYTES] for at in range(0, len(plain), HALF_BYTES)]
            # Stands against a member that seals different halves to different recipients, and against one
            # that grants another seed.
            if any(
                half_commitment(genesis, half) != commitment
                for half, commitment in zip(halves, commitments, strict=False)
            ):
                raise OpenError("does not fit the commitment in the directory")
        except OpenError as error:
            junk.append(self._junk(part, error.message))
            return None
        return halves

    def _junk(self, part: Part, detail: str) -> JunkHalf:
        return JunkHalf(
            channel=self.channel,
            epoch=self.epoch.number,
            use=self.use,
            sealer=part.sealer,
            statement=part.statement,
            detail=detail,
        )


def epoch_keys(
    directory: Directory, channel: str, epoch: int, name: str, receiving_keys: ReceivingKeys
) -> dict[Use, EpochKey]:
    """Open all keys of this epoch that were sealed to ``name``, by use.

    Raises OpenError when a seed that was sealed to it is junk, which is a reason to make a ``complaint``.
    """
    uses: tuple[Use, ...] = get_args(Use)
    keys: dict[Use, EpochKey] = {}
    for use in uses:
        opened = open_seed(directory, channel, epoch, use, name, receiving_keys)
        if opened.key is not None:
            keys[use] = opened.key
        elif opened.junk:
            junk = opened.junk[0]
            raise OpenError(f"the {use} half of epoch {epoch} that '{junk.sealer}' sealed: {junk.detail}")
    return keys


def check_half(
    directory: Directory, channel: str, epoch: int, use: Use, name: str, receiving_keys: ReceivingKeys
) -> None:
    """Check the half of an epoch that was sealed to ``name`` before the epoch is confirmed.

    Raises OpenError when it is junk, or when there is none that ``name`` could open.
    """
    found = _find_epoch(directory, channel, epoch)
    seed = found.seed(use)
    junk: list[JunkHalf] = []
    opener = _Opener(directory, channel, found, use, receiving_keys)
    for offer in found.offers(use, name):
        if seed is not None and opener.part(offer[0], seed.commitments, junk) is not None:
            return
    raise OpenError(junk[0].detail if junk else "no half is sealed to a key that we hold")


def complaint(
    directory: Directory, channel: str, epoch: int, issuer: str, *, detail: str, issued_at: int
) -> ChannelKeysComplained:
    """Draft a recipient's complaint that what it was sealed is junk. It forces a new epoch.

    Only the first 200 characters of ``detail`` are kept.
    """
    header = header_for(directory, issuer, issued_at=issued_at)
    return ChannelKeysComplained(header=header, channel=channel, epoch=epoch, detail=detail[:200])


def _find_epoch(directory: Directory, channel: str, number: int) -> Epoch:
    found = directory.channel(channel)
    if found is None:
        raise NotEntitled(f"there is no channel {channel[:80]!r}")
    epoch = found.epochs.get(number)
    if epoch is None:
        raise NotEntitled(f"channel '{channel}' has no epoch {number}")
    return epoch
