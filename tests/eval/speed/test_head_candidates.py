import pytest
import torch

from distill.numerics import log_softmax, token_log_probs
from distill.objectives.dpo import dpo_loss
from eval.speed import train_trl
from eval.speed.head_candidates import PAIRS, WHOLE, HeadInputs, HeadShape, candidates
from eval.speed.processes import alone
from eval.speed.train_work import BETA

SHAPE = HeadShape(
    num_tokens=24, hidden_size=8, teacher_hidden_size=12, vocab_size=40, answer_tokens=3, dtype=torch.float32
)


def plain_loss(inputs: HeadInputs, family: str) -> torch.Tensor:
    logits = inputs.states @ inputs.weight.t()
    if family == PAIRS:
        answers = token_log_probs(logits, inputs.target_ids).view(-1, 2, SHAPE.answer_tokens).sum(-1)
        none = torch.zeros_like(answers[:, 0])
        return dpo_loss(answers[:, 0], answers[:, 1], none, none, beta=BETA).mean()
    teacher = log_softmax(inputs.teacher_states @ inputs.teacher_weight.t())
    return (teacher.exp() * (teacher - log_softmax(logits))).sum(-1).mean()


def losses_and_gradients() -> dict[tuple[str, str, str], list[list[float]] | None]:
    """Of every candidate: its loss and both gradients in one row each."""
    found = {}
    inputs = HeadInputs(SHAPE, torch.device("cpu"))
    for candidate in candidates(inputs):
        inputs.clear()
        loss = candidate.loss()
        if loss is not None:
            loss.backward()
            found_here = (loss, inputs.states.grad, inputs.weight.grad)
        found[candidate.family, candidate.origin, candidate.name] = (
            None if loss is None else [values.detach().flatten().tolist() for values in found_here]
        )
    return found


@pytest.mark.slow
def test_all_candidates_have_the_plain_loss_and_gradients():
    """They run in a process that has the peers loaded."""
    found = alone(losses_and_gradients, dict, num_threads=1)
    inputs = HeadInputs(SHAPE, torch.device("cpu"))
    for family in (PAIRS, WHOLE):
        wanted = plain_loss(inputs, family)
        expected = [wanted, *torch.autograd.grad(wanted, (inputs.states, inputs.weight))]
        listed = {key: values for key, values in found.items() if key[0] == family}
        assert [origin for _, origin, _ in listed][:2] == ["products", "ours"]
        assert any(origin == "peer" for _, origin, _ in listed) or not train_trl.is_installed()
        for (_, origin, name), values in listed.items():
            assert (values is None) == (origin == "products"), name
            for one, right in zip(values or (), expected, strict=values is not None):
                torch.testing.assert_close(torch.tensor(one), right.detach().flatten(), msg=name)


def test_inputs_are_the_same_every_time():
    first, second = (HeadInputs(SHAPE, torch.device("cpu")) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert first.num_pairs == 4
    assert "24 completion tokens in answers of 3" in SHAPE.described()
