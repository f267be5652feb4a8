"""The share of a training step that is spent waiting for the reader."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from distill.data import TokenizedPair, TokenizedSequence
from distill.objectives import KdSettings
from distill.progress import read_metrics
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import TierSettings
from distill.training import TrainSettings, train
from distill.training.report import METRICS_NAME
from eval.speed.clock import spread
from eval.speed.figures import WaitingRow
from eval.speed.read import random_head
from eval.speed.synthetic_cache import synthetic_cache
from eval.speed.teachers import TeacherShape, random_sequences, random_teacher

STUDENT = TeacherShape(vocab_size=32_000, hidden_size=256, num_layers=4, num_heads=4, intermediate_size=768)
TEACHER_HIDDEN_SIZE = 512
PAIRS_A_STEP = 4
NUM_WARM_UP = 2


def waiting_row(num_steps: int, *, student: TeacherShape = STUDENT) -> WaitingRow:
    """Trains a student on whole distributions of tier `exact` with the trainer itself; what its metrics say."""
    sequences = random_sequences(
        num_prompts=(num_steps + NUM_WARM_UP) * PAIRS_A_STEP,
        prompt_tokens=80,
        completion_tokens=120,
        vocab_size=student.vocab_size,
        seed=0,
    )
    with tempfile.TemporaryDirectory(prefix="distill-waiting-") as folder:
        head = random_head(student.vocab_size, hidden_size=TEACHER_HIDDEN_SIZE)
        cache = synthetic_cache(Path(folder) / "cache", sequences, settings=TierSettings(codec="exact"), head=head)
        measured = _trained(student, _pairs(sequences), cache, Path(folder) / "train")[NUM_WARM_UP:]
    return row_of([row["step_s"] for row in measured], [row["feed_wait_s"] for row in measured])


def row_of(step_s: Sequence[float], waited_s: Sequence[float]) -> WaitingRow:
    """The figures of steps: what each took, from the end of the one before it, and waited."""
    return WaitingRow(tier="exact", steps=len(step_s), step_s=spread(step_s), waiting_share=sum(waited_s) / sum(step_s))


def described(student: TeacherShape = STUDENT) -> str:
    """The measurement in words."""
    return (
        f"steps of the trainer under DeepSpeed, objective `kd`, student of {student.num_layers} layers, hidden size "
        f"{student.hidden_size}, vocabulary {student.vocab_size:,}, {PAIRS_A_STEP} pairs a step; teacher states of "
        f"{TEACHER_HIDDEN_SIZE}; {NUM_WARM_UP} steps before the clock; warm page cache"
    )


def _trained(
    student: TeacherShape, pairs: Sequence[TokenizedPair], cache: TeacherCache, output: Path
) -> list[dict[str, float]]:
    """One pass over the pairs; the metrics of every step, with its seconds."""
    settings = TrainSettings(
        objective=KdSettings(),
        learning_rate=1e-4,
        num_epochs=1,
        global_batch_size=PAIRS_A_STEP,
        micro_batch_size=PAIRS_A_STEP,
    )
    train(random_teacher(student, seed=1), pairs, settings=settings, output_dir=output, seed=0, teacher_cache=cache)
    rows = read_metrics(output / METRICS_NAME)
    return [{**row, "step_s": row["num_tokens"] / row["tokens_per_s"]} for row in rows]


def _pairs(sequences: Sequence[TokenizedSequence]) -> list[TokenizedPair]:
    """Both completions of each prompt."""
    return [
        TokenizedPair(str(number), chosen, rejected)
        for number, (chosen, rejected) in enumerate(zip(sequences[::2], sequences[1::2], strict=True))
    ]
