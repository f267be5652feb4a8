"""The share of a training step that is spent waiting for the reader."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from distill.data import TokenizedPair, TokenizedSequence
from distill.models import StudentModule
from distill.models.world import World
from distill.objectives import KdSettings, OutputHead
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import TierSettings
from distill.teacher_cache.streaming import prefetched
from distill.training import TrainSettings
from distill.training.cached_scores import cached_scores
from distill.training.feed import Feed, GlobalBatch
from distill.training.step import loss_contributions
from eval.speed.clock import spread, synchronise
from eval.speed.figures import WaitingRow
from eval.speed.read import random_head
from eval.speed.synthetic_cache import synthetic_cache
from eval.speed.teachers import TeacherShape, random_sequences, random_teacher

STUDENT = TeacherShape(vocab_size=32_000, hidden_size=256, num_layers=4, num_heads=4, intermediate_size=768)
TEACHER_HIDDEN_SIZE = 512
PAIRS_A_STEP = 4
NUM_WARM_UP = 2


def waiting_row(num_steps: int, *, student: TeacherShape = STUDENT) -> WaitingRow:
    """Trains a student on whole distributions of tier `exact`, the next batch read while this one trains.

    Feed and loss are the trainer's own; PyTorch's AdamW stands in for DeepSpeed's engine.
    """
    sequences = random_sequences(
        num_prompts=(num_steps + NUM_WARM_UP) * PAIRS_A_STEP,
        prompt_tokens=80,
        completion_tokens=120,
        vocab_size=student.vocab_size,
        seed=0,
    )
    with tempfile.TemporaryDirectory(prefix="distill-waiting-") as folder:
        head = random_head(student.vocab_size, hidden_size=TEACHER_HIDDEN_SIZE)
        cache = synthetic_cache(Path(folder), sequences, settings=TierSettings(codec="exact"), head=head)
        feed = _feed(_pairs(sequences), cache, student_vocab_size=student.vocab_size)
        waited_s, elapsed_s = _timed(feed, _stepper(student, cache.head), num_steps)
    return WaitingRow(
        tier="exact",
        steps=num_steps,
        step_s=spread(elapsed_s),
        waiting_share=waited_s / sum(elapsed_s),
    )


def described(student: TeacherShape = STUDENT) -> str:
    """The measurement in words."""
    return (
        f"objective `kd` on a student of {student.num_layers} layers, hidden size {student.hidden_size}, vocabulary "
        f"{student.vocab_size:,}, {PAIRS_A_STEP} pairs a step; teacher states of {TEACHER_HIDDEN_SIZE}; warm page cache"
    )


def _timed(feed: Feed, take_step: Callable[[GlobalBatch], None], num_steps: int) -> tuple[float, list[float]]:
    """Seconds waited, and seconds of each step from asking for its batch to the end of its update."""
    elapsed_s: list[float] = []
    waited_s = 0.0
    with prefetched(feed.step, range(num_steps + NUM_WARM_UP)) as batches:
        for number in range(num_steps + NUM_WARM_UP):
            if number == NUM_WARM_UP:
                waited_s = batches.waited_s
            started = time.perf_counter()
            take_step(next(batches))
            synchronise()
            elapsed_s.append(time.perf_counter() - started)
        return batches.waited_s - waited_s, elapsed_s[NUM_WARM_UP:]


def _stepper(student: TeacherShape, head: OutputHead) -> Callable[[GlobalBatch], None]:
    """One optimizer step."""
    module = StudentModule(random_teacher(student, seed=1).model)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def take_step(batch: GlobalBatch) -> None:
        optimizer.zero_grad()
        for part in batch.passes:
            rows = part.rows
            logits = module(rows.input_ids, rows.attention_mask, rows.position_ids, rows.completion_mask)
            loss = loss_contributions(KdSettings(), logits, part, batch.counts, teacher_head=head)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return take_step


def _feed(pairs: Sequence[TokenizedPair], cache: TeacherCache, *, student_vocab_size: int) -> Feed:
    settings = TrainSettings(
        objective=KdSettings(),
        learning_rate=1e-4,
        num_epochs=1,
        global_batch_size=PAIRS_A_STEP,
        micro_batch_size=PAIRS_A_STEP,
    )
    scores = cached_scores(
        pairs, settings, teacher_cache=cache, reference_cache=None, student_vocab_size=student_vocab_size
    )
    return Feed(pairs, settings, pad_id=0, seed=0, world=World(0, 1, 0), scores=scores)


def _pairs(sequences: Sequence[TokenizedSequence]) -> list[TokenizedPair]:
    def both() -> Iterator[TokenizedPair]:
        for number in range(0, len(sequences), 2):
            yield TokenizedPair(str(number), sequences[number], sequences[number + 1])

    return list(both())
