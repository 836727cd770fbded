"""A short run of the fuzzer with the same seeds each time; ``test_found`` has what the long runs found."""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass

import pytest

from broker.errors import BrokerError
from broker.wire.encoding import encode
from fuzz.campaign import growth
from fuzz.mutate import Pool, mutated
from fuzz.rounds import play_round
from support.coalition import Coalition

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_mutation_raises_anything_but_our_errors(seed: int) -> None:
    """Service, subscriber, replay, queries and views take whatever is truly signed and sealed."""
    assert play_round(seed) == []


def test_mutations_differ_and_most_can_be_encoded() -> None:
    """A mutation is another value, and mostly one that can be signed and sealed."""
    rng, pool = random.Random(0), Pool()
    made = [statement for statement, _ in Coalition.create().made]
    for statement in made:
        pool.take(statement)
    changed = [mutated(statement, rng, pool) for statement in made * 5]
    assert sum(one != before for one, before in zip(changed, made * 5, strict=True)) > len(changed) * 0.8
    assert sum(map(_is_encodable, changed)) > len(changed) * 0.5
    assert all(is_dataclass(one) and fields(one) for one in changed)


def _is_encodable(value: object) -> bool:
    try:
        encode(value)
    except BrokerError:
        return False
    return True


def test_growth_is_that_of_the_last_third_over_the_first() -> None:
    """A leak of a megabyte a round is seen, and a single peak is none."""
    assert growth([2**20 * i for i in range(90)]) == 60 * 2**20
    assert growth([100] * 45 + [10_000] + [100] * 44) == 0
