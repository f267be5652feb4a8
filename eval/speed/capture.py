"""Capture of the tiers against a plain forward pass of the same model over the same batches."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.data import TokenizedSequence
from distill.data.prompt_packs import PackedBatch, pack_groups
from distill.models import LoadedModel, output_head
from distill.models.packed import MaskForm, mask_form, packed_hidden_states
from distill.teacher_cache import CacheSettings
from distill.teacher_cache.codecs import CODECS, MAX_LOGITS, CodecName
from distill.teacher_cache.plan import CachePlan, plan_shards
from distill.teacher_cache.scoring import LocalScorer
from distill.teacher_cache.worker import begin_cache, finish, work
from eval.speed.clock import Run, interleaved, rates, shares
from eval.speed.figures import CaptureRow
from eval.speed.teachers import TeacherShape, random_sequences, random_teacher

CAPTURED: tuple[CodecName, ...] = ("exact", "exact-int8", "scores", "top-k", "sampled")
BODY = "body alone"
WITH_HEAD = "body, head on completion tokens"
ALONE = "body, a padded row for each completion"

SHAPE = TeacherShape(vocab_size=32_000, hidden_size=512, num_layers=6, num_heads=8, intermediate_size=1536)
NUM_PROMPTS, PROMPT_TOKENS, COMPLETION_TOKENS = 12, 80, 120


@dataclass(frozen=True)
class PlainPasses:
    """Forward passes of the model itself: batches packed beforehand, nothing encoded, nothing kept."""

    loaded: LoadedModel
    batches: Sequence[PackedBatch]
    form: MaskForm | None

    def body(self) -> None:
        """Final hidden states only."""
        for batch in self.batches:
            packed_hidden_states(self.loaded.model, batch, form=self.form)

    @torch.inference_mode()
    def with_head(self) -> None:
        """Logits of the completion tokens too, as many at a time as the cache's codecs hold."""
        head = output_head(self.loaded.model)
        rows = max(1, MAX_LOGITS // len(head.weight))
        for batch in self.batches:
            for states in torch.split(packed_hidden_states(self.loaded.model, batch, form=self.form), rows):
                head.logits(states)


def capture_rows(num_repeats: int, *, shape: TeacherShape = SHAPE, num_prompts: int = NUM_PROMPTS) -> list[CaptureRow]:
    """Every codec's tokens a second and their share of the plain pass it is measured against."""
    loaded = random_teacher(shape, seed=0)
    sequences = random_sequences(
        num_prompts=num_prompts,
        prompt_tokens=PROMPT_TOKENS,
        completion_tokens=COMPLETION_TOKENS,
        vocab_size=shape.vocab_size,
        seed=0,
    )
    num_tokens = sum(len(sequence.completion_ids) for sequence in sequences)
    with tempfile.TemporaryDirectory(prefix="distill-capture-") as folder:
        scorer = LocalScorer(loaded)
        captures = {codec: _Capture(scorer, sequences, codec, Path(folder)) for codec in CAPTURED}
        plain = _plain(loaded, sequences)
        pairs = [(codec, WITH_HEAD if CODECS[codec].needs_logits else BODY) for codec in CAPTURED]
        runs: dict[str, Run] = {ALONE: plain[ALONE]}
        for codec, baseline in pairs:  # each baseline runs just before what is held against it
            runs.setdefault(baseline, plain[baseline])
            runs[codec] = Run(captures[codec].run, captures[codec].prepare)
        elapsed_s = interleaved(runs, num_repeats=num_repeats)
    return [
        CaptureRow(
            codec=codec,
            baseline=baseline,
            tokens_per_s=rates(num_tokens, elapsed_s[codec]),
            share=shares(elapsed_s[codec], elapsed_s[baseline]),
        )
        for codec, baseline in [*pairs, ("exact", ALONE)]
    ]


def described(shape: TeacherShape = SHAPE, num_prompts: int = NUM_PROMPTS) -> str:
    """The measurement in words."""
    return (
        f"float32 Llama of {shape.num_layers} layers, hidden size {shape.hidden_size}, vocabulary "
        f"{shape.vocab_size:,}; {num_prompts} prompts of about {PROMPT_TOKENS} tokens with two completions of about "
        f"{COMPLETION_TOKENS}; batches packed, rows written, verified and committed on the clock, plan, sequences file "
        "and head written before it; the plain passes get their batches packed"
    )


class _Capture:
    """A whole capture: what a worker does with its shards, to the manifest of the finished cache.

    What all tiers of a cache share (plan, sequences, head) stands there before.
    """

    def __init__(self, scorer: LocalScorer, sequences: Sequence[TokenizedSequence], codec: CodecName, folder: Path):
        self._scorer, self._sequences, self._folder = scorer, sequences, folder / codec
        self._settings = CacheSettings(codec=codec)

    def prepare(self) -> None:
        """An empty cache."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._job = begin_cache(
            self._scorer,
            self._sequences,
            settings=self._settings,
            output_dir=self._folder,
            data_fingerprint="benchmark",
        )

    def run(self) -> None:
        """Scores, writes and verifies all of it."""
        work(self._job, self._scorer)
        assert finish(self._job)


def _plain(loaded: LoadedModel, sequences: Sequence[TokenizedSequence]) -> dict[str, Run]:
    settings = CacheSettings(codec="exact")
    plan = plan_shards(
        sequences,
        shard_tokens=settings.shard_tokens,
        max_length_tokens=settings.max_length_tokens,
        vocab_size=len(output_head(loaded.model).weight),
    )
    form = mask_form(loaded.model, longest=plan.longest)
    shared = PlainPasses(loaded, _batches(plan, settings, form=form), form)
    alone = PlainPasses(loaded, _batches(plan, settings, form=None), None)
    return {BODY: Run(shared.body), WITH_HEAD: Run(shared.with_head), ALONE: Run(alone.body)}


def _batches(plan: CachePlan, settings: CacheSettings, *, form: MaskForm | None) -> list[PackedBatch]:
    """The worker's own batches; without a mask form every completion has its row."""
    return [
        pack_groups(
            [group.prompt_group for group in batch.groups],
            pad_id=0,
            pack_tokens=None if form is None else batch.row_tokens,
        )
        for shard in plan.shards
        for batch in shard.batches(settings.max_batch_tokens, shares_prompts=form is not None)
    ]
