import pytest
import torch

from distill.models import output_head
from distill.objectives.output_head import OutputHead
from eval.speed.teachers import TeacherShape, mean_entropy_nats, peaked_head, random_sequences, random_teacher

SHAPE = TeacherShape(vocab_size=2100, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)


def test_equal_seeds_give_equal_teachers_of_the_shape_asked_for():
    first, second = (output_head(random_teacher(SHAPE, seed=3).model).weight for _ in range(2))
    assert first.shape == (2100, 16)
    assert torch.equal(first, second)


def test_sequences_come_in_twos_of_one_prompt():
    found = random_sequences(num_prompts=3, prompt_tokens=8, completion_tokens=12, vocab_size=50, seed=0)
    assert len({sequence.sequence_id for sequence in found}) == 6
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first.prompt_ids == second.prompt_ids
        assert 6 <= len(first.prompt_ids) <= 10
        assert 9 <= len(first.completion_ids) <= 15


@pytest.mark.parametrize("entropy_nats", [0.5, 2.0])
@pytest.mark.parametrize("decay", [0.0, 1.1])
def test_a_peaked_head_has_the_entropy_asked_for_in_numbers_of_bfloat16(entropy_nats: float, decay: float):
    torch.manual_seed(0)
    states, head = torch.randn(64, 16), OutputHead(0.02 * torch.randn(500, 16))
    found = peaked_head(head, states, entropy_nats=entropy_nats, decay=decay)
    assert mean_entropy_nats(found.logits(states)) == pytest.approx(entropy_nats, abs=0.01)
    assert torch.equal(found.weight, found.weight.bfloat16().float())


def test_columns_of_a_decaying_head_weigh_less_and_less():
    """Columns of one size, decay 1: column 4 weighs a quarter of column 1, column 8 an eighth."""
    head = peaked_head(OutputHead(torch.ones(3, 8)), torch.randn(4, 8), entropy_nats=0.5, decay=1.0)
    torch.testing.assert_close(head.weight[0, 0] / head.weight[0, [3, 7]], torch.tensor([4.0, 8.0]), rtol=0.01, atol=0)


def test_the_entropy_of_an_even_distribution_is_the_log_of_its_size():
    assert mean_entropy_nats(torch.zeros(3, 8)) == pytest.approx(2.0794415, abs=1e-6)
