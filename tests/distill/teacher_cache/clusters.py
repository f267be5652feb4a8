"""A saved tiny teacher and sequences for workers in processes of their own; run as a program, one such process."""

import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.data import CHAT_TEMPLATE, TokenizedSequence
from distill.models import ScratchSettings, new_model, save_model, train_tokenizer
from distill.teacher_cache import CacheSettings, TeacherCache
from distill.teacher_cache.cluster import fill_cache
from distill.teacher_cache.teacher_source import TeacherSource

ROOT = Path(__file__).parents[3]
DATA = "the-data"


def saved_teacher(folder: Path) -> TeacherSource:
    """A random Llama of 2 layers, hidden 32, vocabulary 280, on disk."""
    tokenizer = train_tokenizer(["a latte for 4.50, please"] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    scratch = ScratchSettings(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_length_tokens=64)
    save_model(new_model(scratch, tokenizer, seed=0), tokenizer, folder)
    return TeacherSource(str(folder))


def some_sequences(num_prompts: int = 20) -> list[TokenizedSequence]:
    """Two completions a prompt."""
    draw = random.Random(0)

    def ids(lowest: int, highest: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, 270) for _ in range(draw.randint(lowest, highest)))

    prompts = [ids(3, 9) for _ in range(num_prompts)]
    return [TokenizedSequence(prompt, ids(2, 7)) for prompt in prompts for _ in range(2)]


def some_settings(**changes: object) -> CacheSettings:
    """Two tiers, a shard about every 12 tokens, a lease of two seconds."""
    values = {
        "codec": ("scores", "exact"),
        "shard_tokens": 12,
        "max_batch_tokens": 48,
        "max_length_tokens": 32,
        "lease_s": 2.0,
    }
    return CacheSettings.model_validate(values | changes)


def shard_bytes(folder: Path) -> dict[str, bytes]:
    """Everything that has to be the same whoever wrote the cache."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def filled(source: TeacherSource, folder: Path, *, num_prompts: int = 20, **changes: object) -> TeacherCache:
    """The cache of those sequences, filled as the settings say."""
    return fill_cache(
        source, some_sequences(num_prompts), settings=some_settings(**changes), output_dir=folder, data_fingerprint=DATA
    )


def job_environment(**added: str) -> dict[str, str]:
    """Where a job finds the packages; no launcher's variables."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | added


def run(job: Mapping[str, Any]) -> None:
    """One process of a job."""
    source = TeacherSource(job["model"], placement=job.get("placement", "one-device"))
    filled(source, Path(job["folder"]), num_prompts=job.get("num_prompts", 20), workers=job.get("workers", 1))


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
