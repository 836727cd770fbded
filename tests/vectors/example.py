"""The live example of the specification: one coalition, one manifest, two bodies, every key given."""

from __future__ import annotations

from broker.avro.schema import RecordSchema, default_store
from broker.avro.schema_file import canonical
from broker.crypto.lock import body_key, context_of, release_shares
from broker.crypto.seal import open_sealed
from broker.records.record import new_record_id
from broker.wire.batch import Batch, Item, Secrets, build_batch
from broker.wire.envelope import open_manifest, parse_envelope
from broker.wire.terms import Purpose
from vectors.cases import Case
from vectors.coalition import (
    ACCESS_SEED,
    AUTHORITY,
    CHANNEL,
    CONTENT,
    CONTENT_SEED,
    EPOCH,
    GENESIS,
    GENESIS_APPENDED_AT,
    GENESIS_ROOT,
    GENESIS_SIGNED,
    HALVES,
    INTAKE,
    ISSUER,
    KAS,
    METADATA,
    METADATA_SEED,
    PARTITION,
    POLICE,
    POLICE_RECEIVING,
    TOPIC,
    header,
    intake_of,
    record_terms,
)

__all__ = ["example", "quoted"]


def _body(ref: str, age_band: str, category: str) -> dict[str, object]:
    child = {"authority": "XBB:youth", "best_interests": "IN_PROGRESS"} if age_band == "CHILD" else None
    return {
        "subject": {"ref": ref, "category": category, "age_band": age_band, "sex": "F"},
        "evaluation": {"source": "A", "information": 1, "basis": "FACT", "lawful_collection": True},
        "legal_basis": {"kind": "UNSC_RESOLUTION", "citation": "UNSC:2396(2017)"},
        "use_limits": ["NO_DEATH_PENALTY_OR_CIDT"],
        "external_refs": [],
        "handling_note": None,
        "stage": "ARRIVED",
        "modality": "STATE_REPATRIATION",
        "event_date": "2026-01-01",
        "from_place": "M49:145",
        "to_place": "XBB",
        "nationalities": ["XAA"],
        "custody": "CARE",
        "receiving_authority": "XBB:youth",
        "travel_document": None,
        "group_ref": "0b5cbf0e-7d5e-4e61-9d5c-0c8e1d6b7a55",
        "child_protection": child,
        "relatives": [],
    }


_BODIES = (
    _body("6f1f3a52-3c55-4b1e-8a57-1f0e5d7a9c01", "ADULT", "OTHER_PARTY"),
    _body("6f1f3a52-3c55-4b1e-8a57-1f0e5d7a9c02", "CHILD", "VICTIM"),
)


def _batch(schema: RecordSchema) -> tuple[Batch, tuple[bytes, ...]]:
    encoded = tuple(schema.codec.encode(body) for body in _BODIES)
    purposes = (Purpose.INVESTIGATION, Purpose.CHILD_PROTECTION)
    items = [
        Item(record_id=new_record_id(), terms=record_terms(purpose=purpose), body=body)
        for purpose, body in zip(purposes, encoded, strict=True)
    ]
    batch = build_batch(
        genesis=GENESIS,
        header=header(),
        record_type=schema.record_type,
        schema=schema.id,
        items=items,
        key=POLICE,
        metadata=METADATA,
        content=CONTENT,
        named=(),
        intake=intake_of(),
        draw=Secrets.draw(CONTENT, items),
    )
    return batch, encoded


def example() -> Case:
    """The example: what is given, and what a reader who holds every key must find."""
    schema = default_store().current("ReturnEvent")
    batch, encoded = _batch(schema)
    (key, value), *bodies = batch.messages
    envelope = parse_envelope(key, value)
    if envelope is None:
        raise ValueError("the example is no manifest")
    opened = open_manifest(envelope, topic=TOPIC, partition=PARTITION, keys=METADATA)
    if opened is None:
        raise ValueError("the example does not open")
    context = context_of(GENESIS, TOPIC, PARTITION, EPOCH, ISSUER, key)
    member_share = CONTENT.member_share(context)
    secret = open_sealed(
        INTAKE, opened.manifest.release_seal, b"ftf-broker/v1/release\n" + context + INTAKE.key_id
    )
    shares = release_shares(context, secret, (0, 1))
    entries = opened.entries
    return {
        "keys": {
            "authority": ["a1" * 32, "a2" * 32, "a3" * 32],
            "issuer_signing": "b1" * 32,
            "issuer_receiving": {"mlkem_seed": "b2" * 64, "x25519": "b2" * 32},
            **{f"{use}_halves": [half.hex() for half in halves] for use, halves in HALVES.items()},
            "intake": {"mlkem_seed": "d1" * 64, "x25519": "d1" * 32},
            "kas_signing": "d2" * 32,
        },
        "genesis_message": {"key": "", "value": GENESIS_SIGNED.hex(), "appended_at": GENESIS_APPENDED_AT},
        "channel": CHANNEL,
        "topic": TOPIC,
        "partition": PARTITION,
        "schema": canonical(schema.schema).decode(),
        "messages": [{"key": k.hex(), "value": v.hex()} for k, v in (batch.messages[0], *bodies)],
        "bodies": list(_BODIES),
        "found": {
            "genesis": GENESIS.hex(),
            "authority_key_ids": [key.key_id.hex() for key in AUTHORITY],
            "issuer_signing_key_id": POLICE.key_id.hex(),
            "issuer_receiving_key_id": POLICE_RECEIVING.key_id.hex(),
            "metadata_seed": METADATA_SEED.hex(),
            "content_seed": CONTENT_SEED.hex(),
            "access_seed": ACCESS_SEED.hex(),
            "intake_key_id": INTAKE.key_id.hex(),
            "kas_signing_key_id": KAS.key_id.hex(),
            "directory_root": GENESIS_ROOT.hex(),
            "schema": schema.id.hex(),
            "manifest_id": key.hex(),
            "nonce": envelope.sealed[:12].hex(),
            "context": context.hex(),
            "batch_id": batch.batch_id.hex(),
            "entries_root": opened.manifest.entries_root.hex(),
            "member_share": member_share.hex(),
            "release_secret": secret.hex(),
            "salts": [entries.salts[i * 16 : i * 16 + 16].hex() for i in (0, 1)],
            "record_ids": [entries.record_id(i).hex() for i in (0, 1)],
            "digests": [entries.digests[i * 32 : i * 32 + 32].hex() for i in (0, 1)],
            "commitments": [entries.commitment(i).hex() for i in (0, 1)],
            "release_checks": [entries.release_checks[i * 32 : i * 32 + 32].hex() for i in (0, 1)],
            "release_shares": [share.hex() for share in shares],
            "body_keys": [body_key(context, member_share, i, shares[i]).hex() for i in (0, 1)],
            "plaintexts": [body.hex() for body in encoded],
        },
    }


def quoted(found: dict[str, object]) -> str:
    """The lines that the specification quotes."""
    lines = []
    for name, value in found.items():
        values = value if isinstance(value, list) else [value]
        for number, item in enumerate(values):
            label = f"{name}[{number}]" if isinstance(value, list) else name
            lines.append(f"{label:<26} {item}")
    return "\n".join(lines)
