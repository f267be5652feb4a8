"""A tiny student and examples it can learn; run as a program, a training job in a process of its own."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from distill.data import CHAT_TEMPLATE, TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.models import LoadedModel, LoraSettings, ScratchSettings, add_lora, new_model, train_tokenizer
from distill.teacher_cache import CacheSettings, TeacherCache, score_sequences
from distill.training import TrainSettings, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOT = Path(__file__).parents[3]
TEXTS = ["a small latte please", "one tea with oat milk", "that makes 4.50, thank you"] * 3
VOCAB_SIZE = 270


@dataclass(frozen=True)
class Scored:
    """Pairs, and what both caches say about them."""

    pairs: list[TokenizedPair]
    teacher: TeacherCache
    reference: TeacherCache


@cache
def tokenizer() -> "PreTrainedTokenizerBase":
    """A byte-level tokenizer of 280 tokens."""
    return train_tokenizer(TEXTS, vocab_size=280, chat_template=CHAT_TEMPLATE)


def new_student(seed: int = 0) -> LoadedModel:
    """The same random Llama of 2 layers, hidden 16, at every call with the same seed."""
    scratch = ScratchSettings(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length_tokens=64)
    return LoadedModel(new_model(scratch, tokenizer(), seed=seed), tokenizer(), "tiny", f"seed-{seed}")


def dialogues(count: int, *, seed: int = 0) -> list[TokenizedConversation]:
    """Token ids that count up, the second half of each to be learned; lengths from 4 to 14."""
    draw = random.Random(seed)
    examples = []
    for number in range(count):
        length, start = draw.randint(4, 14), draw.randrange(VOCAB_SIZE)
        ids = tuple((start + offset) % VOCAB_SIZE for offset in range(length))
        examples.append(TokenizedConversation(f"{seed}-{number}", ids, tuple(o >= length // 2 for o in range(length))))
    return examples


def pairs(count: int, *, seed: int = 0) -> list[TokenizedPair]:
    """Random prompts with two random answers of different length."""
    draw = random.Random(seed)

    def ids(longest: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, VOCAB_SIZE) for _ in range(draw.randint(1, longest)))

    examples = []
    for number in range(count):
        prompt = ids(6)
        chosen, rejected = TokenizedSequence(prompt, ids(8)), TokenizedSequence(prompt, ids(8))
        examples.append(TokenizedPair(f"{seed}-{number}", chosen, rejected))
    return examples


def settings(**changes: object) -> TrainSettings:
    """Four steps of eight examples."""
    defaults: dict[str, object] = {
        "objective": {"name": "sft"},
        "learning_rate": 3e-3,
        "max_steps": 4,
        "global_batch_size": 8,
        "micro_batch_size": 8,
    }
    return TrainSettings.model_validate(defaults | changes)


def scored_pairs(folder: Path, *, count: int = 16, codec: str = "exact") -> Scored:
    """Pairs scored by another model and by the student's start."""
    examples = pairs(count)
    sequences = [sequence for pair in examples for sequence in (pair.chosen, pair.rejected)]

    def scores(name: str, model: LoadedModel, codec: str) -> TeacherCache:
        exact = [{"codec": "exact", "hidden_dtype": "float32"}] if codec == "exact" else []
        choice = CacheSettings.model_validate({"codec": ["scores", *exact], "max_length_tokens": 64})
        return score_sequences(model, sequences, settings=choice, output_dir=folder / name, data_fingerprint="pairs")

    return Scored(examples, scores("teacher", new_student(1), codec), scores("reference", new_student(0), "scores"))


def job_command(*jobs: Mapping[str, object], num_processes: int = 1) -> list[str]:
    """The command line of training jobs, one after the other: plain Python, or torchrun for several processes."""
    launcher = [sys.executable]
    if num_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    return [*launcher, __file__, *map(json.dumps, jobs)]


def job_environment() -> dict[str, str]:
    """Where the job finds the packages; no launcher's variables."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_job(*jobs: Mapping[str, object], num_processes: int = 1) -> None:
    """Runs training jobs to their end, all in the same processes."""
    command = job_command(*jobs, num_processes=num_processes)
    result = subprocess.run(command, env=job_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]


def run(job: Mapping[str, object]) -> None:
    """The job itself: `output`, `caches` (for pairs), `has_adapters` and the settings that differ from `settings()`."""
    changes = job["settings"]
    assert isinstance(changes, dict)
    output, chosen = Path(str(job["output"])), settings(**changes)
    if "caches" not in job:
        student = new_student()
        if job.get("has_adapters"):
            student.model = add_lora(student.model, LoraSettings(rank=2), seed=0)  # type: ignore[arg-type]
        train(student, dialogues(64), settings=chosen, output_dir=output, seed=3, validation=dialogues(6, seed=1))
        return
    folder = Path(str(job["caches"]))
    teacher, reference = TeacherCache.open(folder / "teacher"), TeacherCache.open(folder / "reference")
    train(
        new_student(),
        pairs(16),
        settings=chosen,
        output_dir=output,
        seed=3,
        teacher_cache=teacher,
        reference_cache=reference,
        validation=pairs(5),
        live_teacher=new_student(1) if chosen.objective.name == "gkd" else None,
    )


if __name__ == "__main__":
    for words in sys.argv[1:]:
        run(json.loads(words))
