"""Packed rows that share their prompts give the loss and the gradients of every answer read alone, by each family."""

from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
import transformers
from torch import Tensor

from distill.data import TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.models.adapters import LanguageModel
from distill.models.packed import mask_form
from distill.models.packed_student import PackedStudent
from distill.models.world import World
from distill.numerics import log_softmax, token_log_probs
from distill.objectives import (
    HiddenStateRows,
    LogitRows,
    OutputHead,
    PairTerms,
    SampledRows,
    TeacherRows,
    TokenValues,
    TopKRows,
    pair_loss,
    token_divergences,
)
from distill.training.feed import Feed
from distill.training.head_loss import head_loss
from tests.distill.training.examples import settings
from tests.tiny_shape import TINY_SHAPE

VOCAB, WINDOW = TINY_SHAPE["vocab_size"], 5
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**TINY_SHAPE, tie_word_embeddings=False),
    "qwen2": lambda: transformers.Qwen2Config(
        **TINY_SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(**TINY_SHAPE, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(
        **TINY_SHAPE, head_dim=8, sliding_window=WINDOW, attn_logit_softcapping=2.0, final_logit_softcapping=4.0
    ),
    "phi": lambda: transformers.PhiConfig(**{**TINY_SHAPE, "num_key_value_heads": 4}, partial_rotary_factor=0.5),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCAB,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=1,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}
"""Grouped heads; a window in one layer of two; norms of queries and keys; soft-caps; biases, half-rotary; learned."""

LENGTHS = [(9, 7, 3), (2, 1, 4), (6, 5, 1), (3, 1, 1), (1, 2, 8), (12, 6, 6)]
"""Tokens of prompt, chosen and rejected answer."""


def dadpo(divergence: str) -> dict[str, object]:
    return {"name": "dadpo", "token_divergence": {"name": divergence, "weight": 0.5}}


OBJECTIVES: list[tuple[dict[str, object], str | None]] = [
    ({"name": "dpo", "nll_weight": 0.1}, None),
    ({"name": "dadpo", "length_normalised": True}, None),
    (dadpo("reverse_kl"), "exact"),
    (dadpo("jensen_shannon"), "logits"),
    (dadpo("forward_kl"), "top-k"),
    (dadpo("forward_kl"), "sampled"),
    ({"name": "kd", "temperature": 2.0, "on": "chosen"}, "exact"),
]
"""Every objective with the tier that it is tried with: what a cache gives of the teacher."""


@dataclass(frozen=True)
class Teacher:
    """What tiers say of one random teacher."""

    rows: dict[str, TeacherRows]
    head: OutputHead


def ids(count: int, start: int) -> tuple[int, ...]:
    return tuple((start + 7 * step) % VOCAB for step in range(count))


def some_pairs() -> list[TokenizedPair]:
    found = []
    for number, (prompt, chosen, rejected) in enumerate(LENGTHS):
        shared = ids(prompt, 3 + number)
        # As after a truncation that takes more from the longer sequence.
        other = shared[1:] if number == 0 else shared
        pair = (
            TokenizedSequence(shared, ids(chosen, 11 + number)),
            TokenizedSequence(other, ids(rejected, 5 + number)),
        )
        found.append(TokenizedPair(str(number), *pair))
    return found


def some_dialogues() -> list[TokenizedConversation]:
    return [
        TokenizedConversation(str(n), ids(width, n), tuple(place % 5 > 1 for place in range(width)))
        for n, width in enumerate((14, 3, 9))
    ]


def family(name: str) -> LanguageModel:
    """Weights far from zero, so that a token seen or missed shows."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES[name](), dtype=torch.float32).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model  # type: ignore[no-any-return]


def teacher_of(num_tokens: int) -> Teacher:
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(num_tokens, 16, generator=draw)
    head = OutputHead(0.3 * torch.randn(VOCAB, 16, generator=draw))
    log_probs = log_softmax(head.logits(states))
    top = log_probs.topk(8)
    drawn = torch.multinomial(log_probs.exp(), 6, generator=draw)
    counts = torch.randint(0, 4, drawn.shape, generator=draw)
    counts[:, 0] = 2
    rows: dict[str, TeacherRows] = {
        "exact": HiddenStateRows(states),
        "logits": LogitRows(log_probs.to(torch.bfloat16)),
        "top-k": TopKRows(top.indices, top.values, 1 - top.values.exp().sum(-1), vocab_size=VOCAB),
        "sampled": SampledRows(drawn, counts, vocab_size=VOCAB),
    }
    return Teacher(rows, head)


def table_of_plain_log_probs(model: LanguageModel, pairs: list[TokenizedPair]) -> Tensor:
    """Each answer read alone behind its prompt, its logits made by the model itself."""
    rows = []
    for answer in (answer for pair in pairs for answer in (pair.chosen, pair.rejected)):
        row = torch.tensor([[*answer.prompt_ids, *answer.completion_ids]])
        rows.append(model(input_ids=row, use_cache=False).logits[0, len(answer.prompt_ids) - 1 : -1])
    return log_softmax(torch.cat(rows))


def student_of(model: LanguageModel, way: str) -> PackedStudent:
    """Takes rows run by run, or by masks, or run by run with activations computed twice."""
    own_attention = model.config._attn_implementation
    if way == "recomputed":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    student = PackedStudent(model, longest=32)
    assert student.form == "by_runs"
    if way == "masks":
        model.set_attn_implementation(own_attention)
        student.form = mask_form(model, longest=32)
        assert student.form is not None
    return student


def require_equal(found: Tensor, expected: Tensor, student: PackedStudent, plain_model: LanguageModel) -> None:
    """Losses, and the gradient of each weight on the scale of the largest in it, to 1e-5."""
    assert abs(found.item() - expected.item()) <= 1e-5 * max(1.0, abs(expected.item()))
    weights, plain = dict(student.model.named_parameters()), dict(plain_model.named_parameters())
    gradients = torch.autograd.grad(found, list(weights.values()), retain_graph=True)
    others = torch.autograd.grad(expected, list(plain.values()), retain_graph=True)
    for name, one, other in zip(weights, gradients, others, strict=True):
        scale = other.abs().max().item()
        assert scale > 0, name
        assert (one - other).abs().max().item() <= 1e-5 * scale, name


@pytest.mark.parametrize("way", ["runs", "masks", "recomputed"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_loss_and_gradients_of_every_objective_are_those_of_answers_read_alone(name: str, way: str):
    model = family(name)
    plain_model = deepcopy(model)
    student = student_of(model, way)
    chosen = settings(objective={"name": "dpo"}, global_batch_size=len(LENGTHS))
    batch = Feed(some_pairs(), chosen, pad_id=2, seed=0, world=World(0, 1, 0), form=student.form).step(0)
    (part,) = batch.passes
    by_id = {pair.id: pair for pair in some_pairs()}
    table = table_of_plain_log_probs(plain_model, [by_id[name] for name in part.example_ids])
    of_targets = table.gather(1, part.target_ids[:, None])[:, 0]
    sums = torch.zeros(2 * len(LENGTHS)).index_add(0, part.token_answers, of_targets)
    draw = torch.Generator().manual_seed(2)
    reference, scores = (sums.detach() + torch.randn(len(sums), generator=draw) for _ in range(2))
    teacher = teacher_of(len(part.target_ids))
    terms = PairTerms(*(half for v in (sums, reference, scores, part.answer_lengths) for half in (v[0::2], v[1::2])))
    for described, tier in OBJECTIVES:
        objective = settings(objective=described).objective
        rows = None if tier is None else teacher.rows[tier]
        own = replace(part, reference_log_probs=reference, teacher_log_probs=scores, teacher_rows=rows)
        loss = head_loss(objective, own, batch.counts, teacher_head=teacher.head)
        found = student(own.pack, loss, is_branched=own.is_branched, runs=own.runs)["loss"]
        tokens = None
        if rows is not None:
            is_chosen = part.token_answers % 2 == 0
            values = token_divergences(objective, table, rows, is_chosen=is_chosen, head=teacher.head)
            tokens = TokenValues(values, part.token_answers // 2, is_chosen)
        require_equal(found, pair_loss(objective, terms, tokens=tokens).loss.mean(), student, plain_model)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_loss_and_gradients_of_dialogues_are_those_of_dialogues_read_alone(name: str):
    model = family(name)
    plain_model = deepcopy(model)
    student = student_of(model, "runs")
    rows = some_dialogues()
    chosen = settings(global_batch_size=len(rows))
    batch = Feed(rows, chosen, pad_id=2, seed=0, world=World(0, 1, 0), form=student.form).step(0)
    (part,) = batch.passes
    found = student(
        part.pack, head_loss(chosen.objective, part, batch.counts), is_branched=part.is_branched, runs=part.runs
    )
    told = []
    for row in rows:
        whole, counted = torch.tensor([row.input_ids]), torch.tensor(row.completion_mask[1:])
        told.append(token_log_probs(plain_model(input_ids=whole).logits[0, :-1], whole[0, 1:])[counted])
    require_equal(found["loss"], -torch.cat(told).mean(), student, plain_model)
