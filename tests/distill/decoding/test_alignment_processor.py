import pytest
import torch

from distill.data import render_prompt
from distill.decoding import SamplingSettings
from distill.decoding.alignment_processor import LinearAlignmentProcessor, paired_inputs
from distill.decoding.linear_alignment import LinearAlignmentGenerator, LinearAlignmentSettings
from distill.decoding.principle import contexts
from distill.errors import DataError

PRINCIPLE = "Speak of milk."
SETTINGS = LinearAlignmentSettings(principle=PRINCIPLE, ratio=3.0, top_p=0.95)


def generated(loaded, prompts, processor, **options) -> list[list[int]]:
    """Ids that transformers' own `generate` adds to both readings, up to the end token."""
    inputs = paired_inputs(loaded, prompts, principle=PRINCIPLE)
    end = loaded.tokenizer.eos_token_id
    pad = {"pad_token_id": loaded.tokenizer.pad_token_id, "eos_token_id": end}
    ids = loaded.model.generate(**inputs, **pad, logits_processor=[processor], max_new_tokens=12, **options)
    rows = ids[:, inputs["input_ids"].shape[-1] :].tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


@pytest.mark.parametrize("do_sample", [False, True])
def test_the_answers_of_generate_are_those_of_our_generator(loaded, prompts, do_sample):
    """Whatever `generate` does after the processor: the choice is made."""
    found = generated(loaded, prompts, LinearAlignmentProcessor(SETTINGS), do_sample=do_sample)
    pairs = [tuple(render_prompt(loaded.tokenizer, c) for c in contexts(prompt, PRINCIPLE)) for prompt in prompts]
    greedy = SamplingSettings(temperature=0, max_new_tokens=12)
    expected = LinearAlignmentGenerator(loaded, SETTINGS).generate_ids(pairs, greedy, seed=0)
    assert found[: len(prompts)] == found[len(prompts) :] == expected


def test_samples_follow_the_seed(loaded, prompts):
    def sampled(seed: int) -> list[list[int]]:
        return generated(loaded, prompts, LinearAlignmentProcessor(SETTINGS, temperature=1.0, seed=seed))

    assert sampled(1) == sampled(1) != sampled(2)


def test_a_batch_of_one_reading_is_refused():
    with pytest.raises(DataError, match=r"3 rows came to Linear Alignment\nwhy: .*\nfix: generate"):
        LinearAlignmentProcessor(SETTINGS)(torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 5))


def test_readings_that_drifted_apart_are_refused():
    processor = LinearAlignmentProcessor(SETTINGS)
    processor(torch.tensor([[1, 2], [0, 2]]), torch.zeros(2, 5))
    with pytest.raises(DataError, match="received different tokens"):
        processor(torch.tensor([[1, 2, 3], [0, 2, 4]]), torch.zeros(2, 5))
