import pytest
import torch
import transformers

from distill.models.packed_attention import (
    NAME,
    as_mask,
    attend_by_runs,
    causal_mask,
    packed_attention,
    restored_attention,
)

RUNS = [(0, 4), (1, 3), (2, 2), (3, 1), (0, 2), (0, 1), (2, 3)]
"""A prompt with three completions, a dialogue, a prompt whose first completion is one token and has no run."""
LENGTH = sum(length for _, length in RUNS)


def seen(*, window: int | None = None) -> torch.Tensor:
    """Who sees whom, place by place, from what the runs mean."""
    places: list[tuple[int, int, int]] = []
    group, prompt = -1, 0
    for branch, length in RUNS:
        if branch == 0:
            group, prompt = group + 1, length
        start = 0 if branch == 0 else prompt
        places += [(group, branch, start + offset) for offset in range(length)]
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    for asks, (group, branch, position) in enumerate(places):
        for asked, (other_group, other_branch, other_position) in enumerate(places[: asks + 1]):
            related = group == other_group and other_branch in (0, branch)
            mask[asks, asked] = related and (window is None or position - other_position < window)
    return mask


def projections(*, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, 4, LENGTH, 6), (1, 2, LENGTH, 6), (1, 2, LENGTH, 6)]
    return [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes]


def written_out(tensors, mask, *, softcap=None, scaling=None):
    query, key, value = tensors
    key, value = key.repeat_interleave(2, dim=1), value.repeat_interleave(2, dim=1)
    scores = query @ key.transpose(2, 3) * (6**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_runs_are_attended_as_the_whole_mask_says(window, softcap):
    tensors = projections()
    mask = as_mask(torch.tensor(RUNS))
    found, weights = packed_attention(
        torch.nn.Identity(), *tensors, mask, scaling=0.4, sliding_window=window, softcap=softcap
    )
    expected = written_out(tensors, seen(window=window), softcap=softcap, scaling=0.4)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    direction = torch.randn(found.shape, dtype=found.dtype)
    gradients = torch.autograd.grad((found * direction).sum(), tensors)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), tensors)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("softcap", [None, 0.7])
def test_other_masks_are_taken_as_ever(softcap):
    """None is causal; true is seen; numbers are added."""
    tensors = projections()
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    added = torch.zeros(1, 1, LENGTH, LENGTH, dtype=torch.float64).masked_fill(~causal, -1e300)
    expected = written_out(tensors, causal, softcap=softcap)
    for mask in (None, causal[None, None], added):
        found, _ = packed_attention(torch.nn.Identity(), *tensors, mask, softcap=softcap)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_window_is_counted_from_the_prompts_start():
    """Two queries behind three places, window 2: place 3 sees 2 and itself, place 4 sees 3 and itself."""
    mask = causal_mask(2, before=3, window=2, device=torch.device("cpu"))
    assert mask.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


def test_a_change_of_attention_is_undone_unless_it_is_kept(family_model):
    model = family_model("llama")
    with restored_attention(model):
        attend_by_runs(model)
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == "sdpa"
    with restored_attention(model) as keep:
        attend_by_runs(model)
        keep()
    assert model.config._attn_implementation == NAME


def test_a_model_that_attends_by_runs_reads_and_writes_text_as_before(family_model):
    model = family_model("qwen2")
    ids, attention = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 2]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=attention).logits
        written = model.generate(ids[:1], max_new_tokens=5, do_sample=False)
        attend_by_runs(model)
        torch.testing.assert_close(model(input_ids=ids, attention_mask=attention).logits[:, :3], logits[:, :3])
        assert torch.equal(model.generate(ids[:1], max_new_tokens=5, do_sample=False), written)


def test_a_family_with_its_own_attention_is_refused():
    config = transformers.BloomConfig(vocab_size=61, hidden_size=32, n_layer=1, n_head=4)
    with pytest.raises(ValueError, match="bloom does not call the attention interface"):
        attend_by_runs(transformers.AutoModelForCausalLM.from_config(config))
