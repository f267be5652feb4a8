"""One model in every format: each written and held against the merged model, then all run in turn."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.export import FORMATS, MERGED
from distill.export.cost_process import CostProcess
from distill.export.runtime_cost import RuntimeCost
from distill.models import load_tokenizer
from eval.speed import export_jobs
from eval.speed.clock import spread
from eval.speed.export_figures import FormatRow, ModelFormats
from eval.speed.export_jobs import Distance, Written
from eval.speed.export_models import held_out_chats

_NUM_PROMPT_CHATS = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A model and how often it is measured.

    Args:
        name: what tables call it.
        described: what it is, in words.
        source: the model's folder.
        folder: where artefacts go.
        num_repeats: measured rounds.
        num_chats: held-out dialogues for KL, two at least.
        num_threads: of every process.
    """

    name: str
    described: str
    source: Path
    folder: Path
    num_repeats: int
    num_chats: int
    num_threads: int

    @property
    def merged(self) -> Path:
        """The merged model, which all else is made from; written when it is first asked for."""
        folder = self.folder / "merged"
        if not folder.exists():
            export_jobs.written(MERGED, self.source, folder, num_threads=self.num_threads)
        return folder

    def distance(self, path: Path) -> Distance:
        """An artefact held against it."""
        return export_jobs.distance(path, self.merged, num_chats=self.num_chats, num_threads=self.num_threads)


def format_rows(subject: Subject, names: Sequence[str]) -> tuple[ModelFormats, list[str]]:
    """The figures of every format, and a sentence on each that this model cannot be written in."""
    made: dict[str, Written] = {}
    found: dict[str, Distance] = {}
    refused = []
    for name in names:
        log.info("  %s", name)
        source = subject.source if name == MERGED else subject.merged
        written = export_jobs.written(name, source, subject.folder / name, num_threads=subject.num_threads)
        if written.refusal is not None:
            refused.append(f"{name} is not written of {subject.name}: {written.refusal}")
            continue
        made[name] = written
        found[name] = subject.distance(_path(subject, name))
    costs = _costs(subject, list(made))
    rows = [_row(name, made[name], found[name], costs[name]) for name in made]
    for name in made:
        shutil.rmtree(subject.folder / name)
    model = ModelFormats(
        name=subject.name,
        described=subject.described,
        num_parameters=export_jobs.parameters(subject.merged, num_threads=subject.num_threads),
        num_tokens=max((distance.num_tokens for distance in found.values()), default=0),
        rows=tuple(rows),
    )
    return model, refused


def prompt_ids(folder: Path) -> list[int]:
    """Token ids of a few held-out dialogues."""
    tokenizer = load_tokenizer(folder)
    texts = [message.content for chat in held_out_chats(_NUM_PROMPT_CHATS) for message in chat.messages]
    return [int(token) for token in tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"]]


def _costs(subject: Subject, names: Sequence[str]) -> Mapping[str, list[RuntimeCost]]:
    ids = prompt_ids(subject.merged)
    costs: dict[str, list[RuntimeCost]] = {name: [] for name in names}
    with CostProcess() as process:
        for _ in range(subject.num_repeats):
            for name in names:
                path = _path(subject, name)
                costs[name].append(process.measure(path, runtime=FORMATS[name].runtime, prompt_ids=ids))
    return costs


def _path(subject: Subject, name: str) -> Path:
    return subject.folder / name / FORMATS[name].model_file


def _row(name: str, written: Written, distance: Distance, costs: Sequence[RuntimeCost]) -> FormatRow:
    return FormatRow(
        format=name,
        size_bytes=written.size_bytes,
        bits_per_weight=distance.bits_per_weight,
        kl_nats=distance.kl_nats,
        kl_standard_error_nats=distance.kl_standard_error_nats,
        same_top_token=distance.same_top_token,
        prompt_tokens_per_s=spread([cost.prompt_tokens_per_s for cost in costs]),
        generation_tokens_per_s=spread([cost.generation_tokens_per_s for cost in costs]),
        load_s=spread([cost.load_s for cost in costs]),
        memory_bytes=max(cost.model_memory_bytes for cost in costs),
        write_s=written.elapsed_s,
        write_bytes=written.peak_bytes,
    )
