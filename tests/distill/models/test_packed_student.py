import pytest
import torch
from torch import Tensor

from distill.data.prompt_packs import PromptGroup, pack_groups, runs_of
from distill.errors import ModelError
from distill.models import LoraSettings, add_lora
from distill.models.adapters import without_adapters
from distill.models.packed_student import Contributions, PackedStudent
from distill.numerics import token_log_probs
from distill.objectives.fused import BlockLoss, fused_block_loss
from distill.objectives.output_head import OutputHead

GROUPS = [
    PromptGroup((5, 6, 7, 8), ((20, 21, 22), (30, 31))),
    PromptGroup((12, 13), ((40,), (41, 42, 43))),
]
PACK = pack_groups(GROUPS, pad_id=2, pack_tokens=100)
WEIGHTS = torch.tensor([1.0, -1.0, 0.5, 2.0])
"""One weight for each answer, in their order."""


def weighted(log_probs: Tensor, answers: Tensor) -> Tensor:
    sums = torch.zeros(4).index_add(0, answers, log_probs)
    return torch.tanh(0.1 * sums * WEIGHTS).sum()


def loss(states: Tensor, head: OutputHead) -> Contributions:
    """Bent, so that the gradient depends on the log-probs."""
    answers = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])

    def of(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
        return BlockLoss(weighted(values[0], answers[tokens]), {"tokens": torch.tensor(float(values.shape[1]))})

    found = fused_block_loss(states, head, PACK.target_ids, block_sizes=[5, 4], loss=of, max_logits=5 * 61)
    return {"loss": found.loss, **found.quantities}


def plain_loss(model) -> Tensor:
    """Each answer read alone behind its prompt, its logits made by the model itself."""
    log_probs, answers = [], []
    for group in GROUPS:
        for completion in group.completions:
            row = torch.tensor([[*group.prompt_ids, *completion]])
            logits = model(input_ids=row).logits[0, len(group.prompt_ids) - 1 : -1]
            log_probs.append(token_log_probs(logits, torch.tensor(completion)))
            answers += [len(log_probs) - 1] * len(completion)
    return weighted(torch.cat(log_probs), torch.tensor(answers))


def run(student: PackedStudent) -> Contributions:
    assert student.form == "by_runs"
    return student(PACK, loss, runs=runs_of(PACK))


def test_loss_and_gradients_are_those_of_each_answer_read_alone(any_family):
    """Rotary and learned positions, grouped heads, soft-caps, scales, biases, tied heads."""
    model = any_family
    plain = plain_loss(model)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parameters = [dict(model.named_parameters())[name] for name in names]
    expected = torch.autograd.grad(plain, parameters, allow_unused=True, materialize_grads=True)
    found = run(PackedStudent(model, longest=16))
    assert found["tokens"].item() == 9
    torch.testing.assert_close(found["loss"], plain, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(found["loss"], parameters, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(list(gradients), list(expected), rtol=1e-5, atol=1e-5)


def test_the_loss_runs_inside_the_heads_own_call(family_model):
    """Hooks that gather spread weights stand around the head's call, and its own forward pass is there afterwards."""
    model = family_model("gpt2")
    student = PackedStudent(model, longest=16)
    called: list[str] = []
    head = without_adapters(model).lm_head
    head.register_forward_pre_hook(lambda module, inputs: called.append(f"before {len(inputs[0])}"))
    head.register_forward_hook(lambda module, inputs, output: called.append(f"after {sorted(output)}"))
    run(student)
    assert called == ["before 9", "after ['loss', 'tokens']"]
    assert head(torch.zeros(1, 32)).shape == (1, 61)


def test_a_loss_that_fails_leaves_the_head_as_it_was(family_model):
    model = family_model("llama")
    student = PackedStudent(model, longest=16)

    def broken(states: Tensor, head: OutputHead) -> Contributions:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        student(PACK, broken, runs=runs_of(PACK))
    assert "forward" not in without_adapters(model).lm_head.__dict__


def test_the_student_has_the_models_parameters_and_no_others(family_model):
    model = family_model("llama").train()
    student = PackedStudent(model, longest=16)
    assert {id(p) for p in student.parameters()} == {id(p) for p in model.parameters()}
    assert model.training


def test_only_adapters_learn_where_there_are_adapters(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    run(PackedStudent(model, longest=16))["loss"].backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt
    assert all("lora_" in name for name in learnt)


def test_adapters_on_the_head_are_refused(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2, target_modules=("lm_head",)), seed=0)
    with pytest.raises(ModelError, match="leave the head out of quantization and LoRA"):
        PackedStudent(model, longest=16)


def test_recomputed_activations_give_the_same_gradients(family_model):
    gradients = []
    for recomputes in (False, True):
        model = family_model("qwen2").train()
        if recomputes:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        run(PackedStudent(model, longest=16))["loss"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])
