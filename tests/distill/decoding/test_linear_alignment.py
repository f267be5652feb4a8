import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data import Message, render_prompt
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.decoding.linear_alignment import (
    LinearAlignmentGenerator,
    LinearAlignmentSettings,
    steered_logits,
    steered_tokens,
)
from distill.decoding.principle import contexts
from distill.decoding.sampling import prompt_draws
from distill.errors import DataError, RecipeError
from distill.settings import validated
from tests.strategies import logits

PRINCIPLE = "Speak of milk."
GREEDY = SamplingSettings(temperature=0, max_new_tokens=12, batch_size=4)
SAMPLED = SamplingSettings(temperature=0.7, max_new_tokens=12, batch_size=4)
BUDGET = LinearAlignmentSettings(principle=PRINCIPLE, norm_budget=3.0, norm_order=1.5, top_p=0.95)
RATIO = LinearAlignmentSettings(principle=PRINCIPLE, ratio=3.0, top_p=0.95)


def rendered_pairs(loaded, prompts):
    return [tuple(render_prompt(loaded.tokenizer, c) for c in contexts(prompt, PRINCIPLE)) for prompt in prompts]


def uncached(loaded, pair, draws, settings, *, temperature: float) -> list[int]:
    """The plain way: both contexts read anew for each token, one at a time."""
    ends = {loaded.tokenizer.eos_token_id}
    answer: list[int] = []
    for draw in draws:
        rows = [loaded.model(torch.tensor([[*context, *answer]])).logits[:, -1] for context in pair]
        token = steered_tokens(torch.cat(rows), draw.view(1), settings=settings, temperature=temperature)
        answer.append(int(token))
        if answer[-1] in ends:
            break
    return answer


@pytest.mark.parametrize("settings", [RATIO, BUDGET], ids=["ratio", "budget"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@torch.inference_mode()
def test_the_batched_cached_answers_are_those_of_reading_everything_anew(loaded, prompts, sampling, settings):
    pairs = rendered_pairs(loaded, prompts)
    found = LinearAlignmentGenerator(loaded, settings).generate_ids(pairs, sampling, seed=4)
    draws = prompt_draws([pair[0] for pair in pairs], num_draws=12, seed=4)
    for pair, draw, answer in zip(pairs, draws, found, strict=True):
        assert answer == uncached(loaded, pair, draw, settings, temperature=sampling.temperature)
    assert len({len(answer) for answer in found}) > 1, "no row finished before another"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_at_ratio_zero_it_is_ordinary_decoding_with_the_principle(loaded, prompts, temperature: float):
    """In the nucleus of the principled answer; greedy takes the likeliest, which is always inside."""
    aligned = LinearAlignmentGenerator(loaded, LinearAlignmentSettings(principle=PRINCIPLE, ratio=0.0, top_p=0.8))
    ordinary = SamplingSettings(temperature=temperature, top_p=0.8, max_new_tokens=12)
    expected = TransformersGenerator(loaded).generate(
        [contexts(prompt, PRINCIPLE)[0] for prompt in prompts], ordinary, seed=2
    )
    free = SamplingSettings(temperature=temperature, max_new_tokens=12)
    assert aligned.generate(prompts, free, seed=2) == expected


def test_the_ratio_changes_answers(loaded, prompts):
    """Otherwise the other laws would hold of a generator that steers nowhere."""
    weak = LinearAlignmentSettings(principle=PRINCIPLE, ratio=0.0)
    strong = LinearAlignmentSettings(principle=PRINCIPLE, ratio=5.0, top_p=1.0)
    assert LinearAlignmentGenerator(loaded, weak).generate(prompts, GREEDY, seed=0) != LinearAlignmentGenerator(
        loaded, strong
    ).generate(prompts, GREEDY, seed=0)


def test_answers_do_not_depend_on_batches_or_order(loaded, prompts):
    generator = LinearAlignmentGenerator(loaded, RATIO)
    together = generator.generate(prompts, SAMPLED, seed=3)
    alone = [generator.generate([prompt], SAMPLED, seed=3)[0] for prompt in prompts]
    assert together == alone == generator.generate(prompts[::-1], SAMPLED, seed=3)[::-1]
    assert generator.generate([], SAMPLED, seed=3) == []


@given(
    rows=logits(8),
    ratio=st.floats(0.0, 6.0),
    top_p=st.floats(0.05, 1.0),
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    draws=st.lists(st.floats(0.0, 0.999), min_size=4, max_size=4),
)
def test_no_token_outside_the_unamplified_nucleus_is_ever_chosen(rows, ratio, top_p, temperature, draws):
    settings = LinearAlignmentSettings(ratio=ratio, top_p=top_p)
    tokens = steered_tokens(rows, torch.tensor(draws), settings=settings, temperature=temperature)
    probs = (rows[:4] / (temperature or settings.nucleus_temperature)).softmax(-1)
    likelier = probs > probs.gather(-1, tokens.unsqueeze(-1))
    assert (torch.where(likelier, probs, 0.0).sum(-1) < top_p + 1e-9).all()


def test_the_known_answer_inside_the_nucleus():
    """z* = (4, 0, 0) of which the nucleus .8 at T = 1 keeps two: e^4 / (e^4 + 1) = 0.982014."""
    settings = LinearAlignmentSettings(ratio=2.0, top_p=0.8)
    found = steered_logits(
        torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.5, 0.0]]), settings=settings, temperature=1.0
    )
    expected = torch.tensor([[0.982014, 0.017986, 0.0]])
    torch.testing.assert_close(found.softmax(-1), expected, atol=5e-7, rtol=0)


def test_without_a_principle_the_system_message_steers(loaded, prompts):
    """The second prompt has one; the first has none."""
    generator = LinearAlignmentGenerator(loaded, LinearAlignmentSettings(ratio=2.0))
    assert len(generator.generate([prompts[1]], GREEDY, seed=0)) == 1
    with pytest.raises(DataError, match="has no system message"):
        generator.generate([prompts[0]], GREEDY, seed=0)


@pytest.mark.parametrize("cut", [{"top_p": 0.9}, {"top_k": 5}])
def test_a_second_nucleus_is_refused(loaded, cut):
    with pytest.raises(RecipeError, match=r"sampling.top_. is .* beside linear_alignment\nwhy: .*\nfix: leave"):
        LinearAlignmentGenerator(loaded, RATIO).generate([[Message("user", "hi")]], SamplingSettings(**cut), seed=0)


def test_without_a_strength_the_ratio_is_two():
    rows = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.5, 0.0]])
    default, two = (
        steered_logits(*rows, settings=settings, temperature=1.0)
        for settings in (LinearAlignmentSettings(), LinearAlignmentSettings(ratio=2.0))
    )
    assert torch.equal(default, two)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": -1}, "ratio is -1"),
        ({"ratio": 1.0, "norm_budget": 1.0}, "ratio is 1.0 and norm_budget is 1.0: give one of the two"),
        ({"norm_order": 3.0}, "norm_order is 3.0, but no norm_budget is given"),
        ({"norm_budget": 1.0, "norm_order": 1.0}, "norm_order is 1.0"),
        ({"principle": ""}, "principle is ''"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"nucleus_temperature": 0.0}, "nucleus_temperature is 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(LinearAlignmentSettings, values, source="recipe")


def test_settings_read_back_as_they_were_written():
    for settings in (RATIO, BUDGET, LinearAlignmentSettings()):
        written = settings.model_dump(mode="json")
        assert validated(LinearAlignmentSettings, written, source="x") == settings
