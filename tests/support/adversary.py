"""Somebody with every byte of the log and some keys, who tries each key on everything.

loot = Loot.of(rows, genesis, keys, seeds)  # manifests, member shares and release secrets that open
loot.bodies                                 # what opens with them: nothing, unless both shares are there
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.crypto.lock import body_key, context_of, release_share, unlock
from broker.crypto.seal import ReceivingKey, member_share_info, open_sealed, release_info
from broker.directory import EpochKey
from broker.errors import BrokerError, OpenError
from broker.services.kas.custody import open_held
from broker.services.kas.entries import access_release_secret
from broker.services.kas.keystore import KeyStore
from broker.verify.violations import Place
from broker.wire.encoding import encode
from broker.wire.envelope import OpenedManifest, open_manifest, parse_envelope
from support.log_file import Row

__all__ = ["Loot"]


@dataclass
class Loot:
    """What opened, by the place of the batch's manifest."""

    genesis: bytes
    manifests: dict[Place, OpenedManifest] = field(default_factory=dict)
    member_shares: dict[Place, bytes] = field(default_factory=dict)
    release_secrets: dict[Place, bytes] = field(default_factory=dict)
    bodies: dict[Place, bytes] = field(default_factory=dict)
    """By the place of the body."""
    _channels: dict[Place, str] = field(default_factory=dict)
    _guesses: dict[Place, list[bytes]] = field(default_factory=dict)
    """What each key of any epoch gives as a member share."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        genesis: bytes,
        keys: Iterable[ReceivingKey],
        seeds: Iterable[EpochKey] = (),
        *,
        store: KeyStore | None = None,
        months: Mapping[int, bytes] | None = None,
    ) -> Loot:
        """Try everything: HPKE keys, keys of epochs, what a key store holds, month keys."""
        loot, held, epochs = cls(genesis), list(keys), list(seeds)
        by_place = {row.place: row for row in rows}
        for row in rows:
            loot._open_manifest(row, epochs)
        for place, opened in loot.manifests.items():
            loot._open_shares(place, opened, held, epochs, months or {})
        if store is not None:
            loot._open_held(rows, store)
        for place in loot.manifests:
            loot._open_bodies(place, by_place)
        return loot

    def _open_manifest(self, row: Row, epochs: Sequence[EpochKey]) -> None:
        envelope = parse_envelope(row.key, row.value)
        for keys in epochs if envelope is not None else ():
            assert envelope is not None
            try:
                opened = open_manifest(envelope, topic=row.topic, partition=row.partition, keys=keys.keys)
            except BrokerError:
                continue
            if opened is not None:
                self.manifests[row.place] = opened
                self._channels[row.place] = keys.channel

    def context(self, opened: OpenedManifest) -> bytes:
        """What binds the shares of a batch to it."""
        header = opened.manifest.header
        place = (header.topic, header.partition, header.epoch, header.issuer)
        return context_of(self.genesis, *place, opened.manifest.manifest_id)

    def _open_shares(
        self,
        place: Place,
        opened: OpenedManifest,
        keys: Sequence[ReceivingKey],
        epochs: Sequence[EpochKey],
        months: Mapping[int, bytes],
    ) -> None:
        context, manifest = self.context(opened), opened.manifest
        if not manifest.member_seals:
            use = "access" if place.topic == "access" else "content"
            right = (self._channels[place], manifest.header.epoch, use)
            for one in epochs:
                derived = one.keys.member_share(context)
                self._guesses.setdefault(place, []).append(derived)
                if (one.channel, one.epoch, one.use) == right:
                    self.member_shares[place] = derived
        for key in keys:
            for seal in manifest.member_seals:
                share = _opened(key, seal.sealed, member_share_info(context))
                if share is not None:
                    self.member_shares[place] = share
            secret = _opened(key, manifest.release_seal, release_info(context, manifest.intake_key_id))
            if secret is not None:
                self.release_secrets[place] = secret
        if place.topic == "access" and place.partition in months:
            self.release_secrets[place] = access_release_secret(months[place.partition], context)

    def _open_held(self, rows: Sequence[Row], store: KeyStore) -> None:
        places = {opened.batch_id: place for place, opened in self.manifests.items()}
        for row in rows:
            if row.topic == "keys" and row.key in places:
                try:
                    held = open_held(store, row.key or b"", row.value or b"")
                except OpenError:
                    continue
                if held.release_secret is not None:
                    self.release_secrets[places[row.key]] = held.release_secret

    def _open_bodies(self, place: Place, rows: dict[Place, Row]) -> None:
        opened = self.manifests[place]
        context, guesses = self.context(opened), [bytes(32)]
        members = [self.member_shares.get(place, guesses[0]), *self._guesses.get(place, ())]
        secrets = [self.release_secrets[place]] if place in self.release_secrets else guesses
        for i in range(opened.manifest.count):
            body = place._replace(offset=place.offset + 1 + i)
            commitment = opened.entries.commitment(i)
            value = rows[body].value or b""
            for member in members:
                try:
                    key = body_key(context, member, i, release_share(context, secrets[0], i))
                    self.bodies[body] = unlock(key, i, value, commitment)
                except BrokerError:
                    continue

    @property
    def text(self) -> bytes:
        """All that is now in the clear, as bytes in which words can be searched."""
        opened = [encode(one.signed) + encode(one.entries) for one in self.manifests.values()]
        return b"\0".join([*opened, *self.bodies.values()])


def _opened(key: ReceivingKey, sealed: bytes, info: bytes) -> bytes | None:
    try:
        return open_sealed(key, sealed, info)
    except BrokerError:
        return None
