import logging

import pytest
import torch

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.teacher_cache.codecs import Codec, EncodedRows, HeadShape, TierSettings, make_codec
from distill.teacher_cache.memory import MemoryGuard, is_out_of_memory
from distill.teacher_cache.plan import PlannedBatch, plan_shards

SCORES = make_codec(TierSettings(codec="scores"), HeadShape(vocab_size=99, hidden_size=2))


class SmallMachine:
    """A scorer with room for so many positions; a token's row is its own id, so that order shows."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.passes: list[int] = []

    def score(self, batch: PlannedBatch, codecs: list[Codec]) -> list[EncodedRows]:
        self.passes.append(batch.num_positions)
        if batch.num_positions > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return [EncodedRows(torch.tensor(tokens_of(batch), dtype=torch.uint8)[:, None]) for _ in codecs]


def tokens_of(batch: PlannedBatch) -> list[int]:
    return [token for planned in batch.sequences for token in planned.sequence.completion_ids]


def batch_of(num_pairs: int) -> PlannedBatch:
    """Pairs of 1 + 3 + 3 = 7 positions."""
    rows = [TokenizedSequence((n,), (n, side, n, side)) for n in range(num_pairs) for side in (50, 60)]
    plan = plan_shards(rows, shard_tokens=1_000, max_length_tokens=9, vocab_size=99)
    (batch,) = plan.shards[0].batches(1_000)
    return batch


def test_out_of_memory_halves_the_budget_until_it_fits_and_keeps_the_order(caplog):
    """56 positions do not fit 15: passes of at most 28 and then 14 hold the eight pairs."""
    machine = SmallMachine(15)
    guard = MemoryGuard(machine)
    batch = batch_of(8)
    with caplog.at_level(logging.WARNING):
        (rows,) = guard.score(batch, [SCORES])
    assert rows.records[:, 0].tolist() == tokens_of(batch)
    assert machine.passes == [56, 28, 14, 14, 14, 14]
    assert guard.max_positions == 14
    assert "out of memory with 56 positions in a pass; going on with 28" in caplog.text


def test_what_was_learned_holds_for_the_batches_that_follow():
    machine = SmallMachine(15)
    guard = MemoryGuard(machine)
    guard.score(batch_of(8), [SCORES])
    machine.passes.clear()
    guard.score(batch_of(4), [SCORES])
    assert machine.passes == [14, 14]


def test_a_pair_that_does_not_fit_is_read_sequence_by_sequence():
    machine = SmallMachine(4)
    (rows,) = MemoryGuard(machine).score(batch_of(1), [SCORES])
    assert machine.passes == [7, 4, 4]
    assert rows.records[:, 0].tolist() == tokens_of(batch_of(1))


def test_a_sequence_that_does_not_fit_alone_is_refused_by_name():
    with pytest.raises(CacheError, match=rf"out of memory with sequence {batch_of(1).sequences[0].id[:12]} alone"):
        MemoryGuard(SmallMachine(3)).score(batch_of(1), [SCORES])


def test_other_errors_pass_through():
    class Broken(SmallMachine):
        def score(self, batch, codecs):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        MemoryGuard(Broken(0)).score(batch_of(1), [SCORES])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_trouble(error, expected):
    assert is_out_of_memory(error) is expected
