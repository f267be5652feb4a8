"""daDPO steps of students in the shape of Qwen2.5, random weights: how much of the device's speed they reach."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from distill.data import TokenizedPair
from distill.embedded import teacher_folder
from distill.models import LoadedModel, load_tokenizer
from distill.models.world import process_group
from distill.objectives import DadpoSettings
from distill.training import TrainSettings, memory_plan
from distill.training.cached_scores import CachedScores
from distill.training.engine import clips_outside, start_engine
from distill.training.feed import Feed, counts_of
from distill.training.step import StudentStep
from distill.training.training_run import prepared_module
from eval.speed.clock import rates, spread, synchronise
from eval.speed.flops import MatrixProduct, needed_flops
from eval.speed.head_figures import LargeStep
from eval.speed.peak_memory import PeakMemory
from eval.speed.teachers import TeacherShape
from eval.speed.train_work import BETA, PAD_ID, Work, sequences

WARM_UP = 3
NUM_PRODUCTS = 20
PRODUCT_SIZES = {"cuda": 8192, "cpu": 1024}
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class LargeModel:
    """A student's shape, its key and value heads, and the pairs it is trained on."""

    work: Work
    num_key_value_heads: int
    dtype: str

    @property
    def kv_share(self) -> float:
        """Key and value heads over query heads."""
        return self.num_key_value_heads / self.work.student.num_heads


def _qwen(hidden_size: int, num_layers: int, num_heads: int, intermediate_size: int) -> LargeModel:
    shape = TeacherShape(151_936, hidden_size, num_layers, num_heads, intermediate_size)
    work = Work(shape, shape, num_pairs=8, prompt_tokens=(512, 512), answer_tokens=(512, 512), batch_pairs=8)
    return LargeModel(work, num_key_value_heads=2, dtype="bfloat16")


MODELS = {
    "Qwen2.5-0.5B": _qwen(896, 24, 14, 4864),
    "Qwen2.5-1.5B": _qwen(1536, 28, 12, 8960),
    "tiny": LargeModel(
        Work(
            TeacherShape(500, 16, 2, 2, 24),
            TeacherShape(500, 16, 2, 2, 24),
            num_pairs=2,
            prompt_tokens=(4, 4),
            answer_tokens=(4, 4),
            batch_pairs=2,
        ),
        num_key_value_heads=1,
        dtype="float32",
    ),
}


def described() -> str:
    """The measurement in words."""
    return "daDPO steps, random weights, 8 pairs a step, prompts of 512 tokens and answers of 512, bfloat16"


def large_step(
    name: str, device: torch.device, *, num_steps: int, vendor_flops_per_s: float | None = None
) -> LargeStep:
    """Steps of the trainer on one model of `MODELS`; scores of teacher and reference stand in memory."""
    large = MODELS[name]
    pairs = large.work.pairs()
    elapsed_s, size_bytes = _timed(large, pairs, device, num_steps=num_steps)
    tokens = sum(counts_of(pair).num_tokens for pair in pairs)
    flops = needed_flops(large.work.student, pairs, kv_share=large.kv_share)
    return LargeStep(
        name=name,
        tokens_per_s=rates(tokens, elapsed_s),
        step_s=spread(elapsed_s),
        needed_flops_per_s=rates(flops, elapsed_s),
        product_flops_per_s=product_flops_per_s(device, dtype=getattr(torch, large.dtype)),
        vendor_flops_per_s=vendor_flops_per_s,
        size_bytes=size_bytes,
    )


def product_flops_per_s(device: torch.device, *, dtype: torch.dtype, num_products: int = NUM_PRODUCTS) -> float:
    """The speed of a large square product: the fastest of some."""
    size = PRODUCT_SIZES[device.type]
    product = MatrixProduct(size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(num_products):
        synchronise()
        started = time.perf_counter()
        product.run()
        synchronise()
        best = min(best, time.perf_counter() - started)
    return MatrixProduct.flops_of(size) / best


def _timed(
    large: LargeModel, pairs: list[TokenizedPair], device: torch.device, *, num_steps: int
) -> tuple[list[float], int]:
    settings = TrainSettings(
        objective=DadpoSettings(beta_reference=BETA / 2, beta_teacher=BETA / 2),
        learning_rate=LEARNING_RATE,
        max_steps=num_steps + WARM_UP,
        global_batch_size=large.work.batch_pairs,
        max_tokens_per_pass=16_384,
        max_length_tokens=large.work.longest,
        dtype="bfloat16" if large.dtype == "bfloat16" else "float32",
    )
    known = {sequence.sequence_id: -float(len(sequence.completion_ids)) for sequence in sequences(pairs)}
    scores = CachedScores(reference_log_probs=known, teacher_log_probs=known, distributions=None)
    student = _student(large, device)
    with process_group() as world:
        module = prepared_module(student, settings)
        engine = start_engine(module, settings)
        step = StudentStep(engine, settings, world=world, clips_outside=clips_outside(memory_plan(settings), settings))
        feed = Feed(pairs, settings, pad_id=PAD_ID, seed=0, world=world, form=module.form, scores=scores)
        memory = PeakMemory()
        elapsed_s = []
        for number in range(num_steps + WARM_UP):
            batch = feed.step(number)
            synchronise()
            started = time.perf_counter()
            step.train(batch, lr=LEARNING_RATE, number=number + 1)
            synchronise()
            elapsed_s.append(time.perf_counter() - started)
        engine.destroy()
    on_gpu = device.type == "cuda"
    return elapsed_s[WARM_UP:], torch.cuda.max_memory_allocated() if on_gpu else memory.raw_bytes


def _student(large: LargeModel, device: torch.device) -> LoadedModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = large.work.student
    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=large.num_key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    dtype: Any = getattr(torch, large.dtype)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).to(dtype)
    return LoadedModel(model, load_tokenizer(teacher_folder()), "random weights", "random")
