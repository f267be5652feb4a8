import pytest
import torch

from distill.data.prompt_packs import PromptGroup, pack_groups, runs_of
from distill.models.packed import packed_states
from distill.models.packed_attention import NAME as BY_RUNS
from distill.models.packed_attention import as_mask, attend_by_runs, packed_attention
from distill.models.packed_flex import NAME, agrees_with_runs, flex_attention_by_runs, places_of

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")

RUNS = ((0, 4), (1, 3), (2, 2), (3, 1), (0, 2), (0, 1), (2, 3))
LENGTH = sum(length for _, length in RUNS)


def projections() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, 4, LENGTH, 16), (1, 2, LENGTH, 16), (1, 2, LENGTH, 16)]
    return [torch.randn(shape, generator=draw) for shape in shapes]


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_one_kernel_attends_as_run_after_run(window, softcap):
    tensors, mask = projections(), as_mask(torch.tensor(RUNS))
    options = {"scaling": 0.4, "sliding_window": window, "softcap": softcap}
    expected, _ = packed_attention(torch.nn.Identity(), *tensors, mask, **options)
    found, weights = flex_attention_by_runs(torch.nn.Identity(), *tensors, mask, **options)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_places_known_answer():
    """A prompt of 2 with completions of 2 and 1, then a prompt of 1: positions start again after each prompt."""
    group, branch, position = places_of(((0, 2), (1, 2), (2, 1), (0, 1)))
    assert group.tolist() == [0, 0, 0, 0, 0, 1]
    assert branch.tolist() == [0, 0, 1, 1, 2, 0]
    assert position.tolist() == [0, 1, 2, 3, 2, 0]


def test_masks_proper_and_dropout_go_run_by_run():
    """FlexAttention drops no weights: with all of them dropped nothing is left."""
    tensors = projections()
    expected, _ = packed_attention(torch.nn.Identity(), *tensors, None)
    assert torch.equal(flex_attention_by_runs(torch.nn.Identity(), *tensors, None)[0], expected)
    found, _ = flex_attention_by_runs(
        torch.nn.Identity(), *tensors, as_mask(torch.tensor(RUNS)), dropout=1.0, softcap=5.0
    )
    assert torch.count_nonzero(found) == 0


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "phi", "gpt2"])
def test_whole_models_say_the_same_by_either(family_model, family):
    model = family_model(family)
    groups = [PromptGroup((5, 6, 7), ((20, 21, 22), (30, 31))), PromptGroup((8, 9), ((40,), (41, 42, 43)))]
    batch = pack_groups(groups, pad_id=2, pack_tokens=100)
    states = []
    for name, attend in ((BY_RUNS, packed_attention), (NAME, flex_attention_by_runs)):
        attend_by_runs(model, name=name, attend=attend)
        states.append(packed_states(model, batch, form="by_runs", runs=runs_of(batch)))
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-5)


def test_a_cpu_has_no_gradients_of_it_so_that_no_model_keeps_it_there():
    with pytest.raises((RuntimeError, NotImplementedError), match="does not support backward on CPU"):
        agrees_with_runs(num_heads=4, num_key_heads=2, head_size=16, dtype=torch.float32, device=torch.device("cpu"))
