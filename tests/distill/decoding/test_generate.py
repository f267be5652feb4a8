import pytest
import torch

from distill.data import Message, render_prompt
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.decoding.sampling import prompt_draws

GREEDY = SamplingSettings(temperature=0, max_new_tokens=12, batch_size=4)
SAMPLED = SamplingSettings(temperature=1.0, top_p=0.95, top_k=50, max_new_tokens=12, batch_size=4)


@pytest.fixture
def generator(loaded) -> TransformersGenerator:
    return TransformersGenerator(loaded)


def test_greedy_answers_are_those_of_transformers(loaded, generator, prompts):
    rendered = [render_prompt(loaded.tokenizer, prompt) for prompt in prompts]
    answers = generator.generate_ids(rendered, GREEDY, seed=0)
    for prompt, answer in zip(rendered, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert answer == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_batches_or_order(generator, prompts, settings: SamplingSettings):
    together = generator.generate(prompts, settings, seed=3)
    alone = [generator.generate([prompt], settings, seed=3)[0] for prompt in prompts]
    in_pairs = generator.generate(prompts, settings.model_copy(update={"batch_size": 2}), seed=3)
    backwards = generator.generate(prompts[::-1], settings, seed=3)[::-1]
    assert together == alone == in_pairs == backwards


def test_the_seed_decides(generator, prompts):
    assert generator.generate(prompts, SAMPLED, seed=1) == generator.generate(prompts, SAMPLED, seed=1)
    assert generator.generate(prompts, SAMPLED, seed=1) != generator.generate(prompts, SAMPLED, seed=2)


def test_an_answer_stops_at_an_end_token_and_says_so(loaded, generator, prompts):
    end = loaded.tokenizer.eos_token_id
    rendered = [render_prompt(loaded.tokenizer, prompt) for prompt in prompts] * 6
    settings = SAMPLED.model_copy(update={"max_new_tokens": 40, "batch_size": 36})
    answers = generator.generate_ids(rendered, settings, seed=0)
    generations = generator.generate(prompts * 6, settings, seed=0)
    assert {generation.finish_reason for generation in generations} == {"stop", "length"}
    for ids, generation in zip(answers, generations, strict=True):
        assert end not in ids[:-1]
        assert generation.finish_reason == ("stop" if ids[-1] == end else "length")
        assert generation.num_tokens == len(ids)
        assert len(ids) == 40 or ids[-1] == end


def test_no_special_token_shows_in_the_text(generator, prompts):
    texts = [g.text for g in generator.generate(prompts * 6, SAMPLED, seed=5)]
    assert not [text for text in texts if "<|" in text and "|>" in text]


def test_no_prompt_no_answer(generator):
    assert generator.generate([], GREEDY, seed=0) == []


def test_a_model_in_training_is_left_in_training(loaded, generator):
    loaded.model.train()
    generator.generate([[Message("user", "hi")]], GREEDY, seed=0)
    assert loaded.model.training
    loaded.model.eval()


def test_ids_beyond_those_that_may_be_drawn_are_not_drawn(loaded, generator, prompts):
    rendered = [render_prompt(loaded.tokenizer, prompt) for prompt in prompts]
    draws = prompt_draws(rendered, num_draws=SAMPLED.max_new_tokens, seed=1)
    free = generator.answer_ids(rendered, SAMPLED, draws=draws)
    assert free == generator.generate_ids(rendered, SAMPLED, seed=1)
    assert max(token for answer in free for token in answer) >= 40
    bound = generator.answer_ids(rendered, SAMPLED, draws=draws, num_token_ids=40)
    assert max(token for answer in bound for token in answer) < 40
