import copy
import math

import pytest
import torch

from distill.data import (
    Conversation,
    Message,
    TokenizedConversation,
    conversation_row,
    pad_rows,
    sequence_row,
    tokenize_completion,
    tokenize_conversation,
)
from distill.data.sequences import TokenizedSequence
from distill.errors import CacheError, DataError, ModelError
from distill.export import write_gguf
from distill.models import LoadedModel, ScratchSettings, load_model, new_model, save_model
from distill.teacher_cache import CacheSettings, TeacherCache, TierSettings, score_sequences
from eval.divergence import MemoryLimits, kl_to_teacher, mean_over_tokens, reference_perplexity

SHAPE = ScratchSettings(hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8, max_length_tokens=64)


def tokenized(loaded: LoadedModel, dialogues: list[Conversation]) -> list[TokenizedConversation]:
    return [tokenize_conversation(loaded.tokenizer, row, max_length_tokens=100) for row in dialogues]


def sequences_of(loaded: LoadedModel, dialogues: list[Conversation]) -> list[TokenizedSequence]:
    rows = (
        tokenize_completion(loaded.tokenizer, row.messages[:-1], row.messages[-1].content, max_length_tokens=100)
        for row in dialogues
    )
    return [row for row in rows if row is not None]


def cached(loaded: LoadedModel, sequences: list[TokenizedSequence], folder, **tier: str) -> TeacherCache:
    chosen = TierSettings.model_validate(tier or {"codec": "exact", "hidden_dtype": "float32"})
    settings = CacheSettings(codec=chosen, max_length_tokens=100)
    return score_sequences(loaded, sequences, settings=settings, output_dir=folder, data_fingerprint="data")


def plain_log_probs(loaded: LoadedModel, row) -> torch.Tensor:
    """One row through the whole model in float64, no padding, no chunks: [completion tokens, vocab]."""
    batch = pad_rows([row], pad_id=0)
    with torch.no_grad():
        logits = loaded.model(input_ids=batch.input_ids).logits.double()
    return logits.log_softmax(-1)[batch.completion_mask], batch.target_ids[batch.completion_mask]


def test_kl_agrees_with_the_plain_float64_version(make_model, dialogues):
    teacher, student = make_model(0), make_model(1)
    examples = tokenized(teacher, dialogues)
    values = []
    for example in examples:
        teacher_log_probs, _ = plain_log_probs(teacher, conversation_row(example))
        student_log_probs, _ = plain_log_probs(student, conversation_row(example))
        values.append((teacher_log_probs.exp() * (teacher_log_probs - student_log_probs)).sum(-1))
    measured = kl_to_teacher(student, teacher, examples)
    assert measured.mean_nats == pytest.approx(torch.cat(values).mean().item(), rel=1e-4)
    assert measured.num_tokens == sum(len(value) for value in values)
    assert measured.num_conversations == len(dialogues)


def test_a_model_is_at_no_distance_from_itself(make_model, dialogues):
    measured = kl_to_teacher(make_model(0), make_model(0), tokenized(make_model(0), dialogues))
    assert measured.mean_nats == pytest.approx(0.0, abs=1e-6)


def test_small_chunks_and_batches_change_nothing(make_model, dialogues):
    examples = tokenized(make_model(0), dialogues)
    whole = kl_to_teacher(make_model(1), make_model(0), examples)
    cut = kl_to_teacher(make_model(1), make_model(0), examples, limits=MemoryLimits(max_batch_tokens=1, max_logits=600))
    assert cut.mean_nats == pytest.approx(whole.mean_nats, rel=1e-5)
    assert cut.standard_error_nats == pytest.approx(whole.standard_error_nats, rel=1e-4)


def test_a_cache_gives_the_figure_of_the_teacher_it_was_made_by(make_model, dialogues, tmp_path):
    sequences = sequences_of(make_model(0), dialogues)
    cache = cached(make_model(0), sequences, tmp_path / "cache")
    live = kl_to_teacher(make_model(1), make_model(0), sequences)
    for limits in (MemoryLimits(), MemoryLimits(max_batch_tokens=40, max_logits=600)):
        from_cache = kl_to_teacher(make_model(1), cache, sequences, limits=limits)
        assert from_cache.mean_nats == pytest.approx(live.mean_nats, rel=1e-4)
        assert from_cache.num_tokens == live.num_tokens


def test_a_cache_that_does_not_fit_is_refused(make_model, dialogues, tmp_path):
    sequences = sequences_of(make_model(0), dialogues)
    with pytest.raises(DataError, match="a cache holds sequences, not whole conversations"):
        kl_to_teacher(
            make_model(1), cached(make_model(0), sequences, tmp_path / "a"), tokenized(make_model(0), dialogues)
        )
    with pytest.raises(CacheError, match="1 of 3 sequences are not in teacher cache"):
        kl_to_teacher(make_model(1), cached(make_model(0), sequences[1:], tmp_path / "b"), sequences)
    with pytest.raises(CacheError, match=r"distill cache RECIPE cache\.codec=\[scores,exact\]"):
        kl_to_teacher(make_model(1), cached(make_model(0), sequences, tmp_path / "c", codec="scores"), sequences)


def test_perplexity_agrees_with_the_plain_float64_version(make_model, dialogues):
    examples = sequences_of(make_model(0), dialogues)
    values = []
    for example in examples:
        log_probs, targets = plain_log_probs(make_model(0), sequence_row(example))
        values.append(-log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1))
    measured = reference_perplexity(make_model(0), examples)
    assert measured.perplexity == pytest.approx(math.exp(torch.cat(values).mean()), rel=1e-4)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantized_model_is_nearer_to_its_own_weights_than_to_others(make_model, dialogues, tmp_path, quantization):
    source = make_model(0)
    save_model(source.model, source.tokenizer, tmp_path / "model")
    quantized = load_model(tmp_path / "model", quantization=quantization)
    examples = tokenized(source, dialogues)
    to_itself, to_another = (kl_to_teacher(quantized, teacher, examples) for teacher in (source, make_model(1)))
    assert 0 < to_itself.mean_nats < to_another.mean_nats


def test_a_gguf_file_is_measured_through_transformers(make_model, dialogues, tmp_path):
    source = make_model(0)
    save_model(source.model, source.tokenizer, tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f16")
    measured = kl_to_teacher(load_model(tmp_path / "model.gguf"), source, tokenized(source, dialogues))
    assert measured.mean_nats < 1e-3


def test_another_vocabulary_is_refused(make_model, dialogues):
    other = make_model(0)
    tokenizer = copy.deepcopy(other.tokenizer)
    tokenizer.add_tokens(["one more"])
    student = LoadedModel(new_model(SHAPE, tokenizer, seed=0), tokenizer, "other", "fp")
    with pytest.raises(ModelError, match=r"KL of other to seed 1 is not defined\nwhy: "):
        kl_to_teacher(student, make_model(1), tokenized(other, dialogues))


def test_nothing_to_measure_on_is_refused(make_model):
    with pytest.raises(DataError, match="no conversation to measure on"):
        reference_perplexity(make_model(0), [])
    with pytest.raises(DataError, match="no completion token to average over"):
        mean_over_tokens([], [])


def test_ratio_standard_error_known_answer():
    """Sums 1 and 5 over 1 and 2 tokens: mean 6/3 = 2; residuals 1 - 2 = -1 and 5 - 4 = 1; sqrt(2/1 * 2) / 3 = 2/3."""
    measured = mean_over_tokens([1.0, 5.0], [1, 2])
    assert measured.mean_nats == 2.0
    assert measured.standard_error_nats == pytest.approx(2 / 3)


def test_ratio_standard_error_of_equal_lengths_is_that_of_the_mean():
    """Values 1, 2, 6 of one token each: mean 3, sample variance (4 + 1 + 9) / 2 = 7, standard error sqrt(7 / 3)."""
    assert mean_over_tokens([1.0, 2.0, 6.0], [1, 1, 1]).standard_error_nats == pytest.approx(math.sqrt(7 / 3))


def test_one_conversation_has_no_standard_error(make_model):
    row = Conversation("one", (Message("user", "hi"), Message("assistant", "hello")))
    measured = reference_perplexity(make_model(0), tokenized(make_model(0), [row]))
    assert measured.standard_error_nats is None
