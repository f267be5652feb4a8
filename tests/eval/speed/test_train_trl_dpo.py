from dataclasses import replace
from functools import partial

import pytest
import torch

from distill.data import TokenizedSequence
from distill.models import LoadedModel
from eval.speed import train_trl
from eval.speed.processes import alone
from eval.speed.teachers import random_teacher
from eval.speed.train_jobs import JobResult
from eval.speed.train_trl import TrlSettings
from eval.speed.train_trl_dpo import run_dpo_again
from eval.speed.train_work import BETA, REFERENCE_SEED, STUDENT_SEED, WORKS

WORK = replace(WORKS["tiny"], num_pairs=2)


def log_prob(loaded: LoadedModel, answer: TokenizedSequence) -> torch.Tensor:
    row = torch.tensor([[*answer.prompt_ids, *answer.completion_ids]])
    logits = loaded.model(input_ids=row).logits[0, len(answer.prompt_ids) - 1 : -1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer.completion_ids)[:, None]).sum()


@pytest.mark.slow
@pytest.mark.skipif(not train_trl.is_installed(), reason="without TRL there is nothing to compare with")
def test_the_jobs_one_step_has_the_plain_loss_of_its_pairs(tmp_path):
    """-log sigmoid(beta ((chosen - rejected) of the student - that of the reference)), a mean over both pairs."""
    student, reference = (random_teacher(WORK.student, seed=seed) for seed in (STUDENT_SEED, REFERENCE_SEED))
    with torch.no_grad():
        margins = [
            log_prob(model, pair.chosen) - log_prob(model, pair.rejected)
            for pair in WORK.pairs()
            for model in (student, reference)
        ]
    gaps = torch.stack(margins).view(-1, 2)
    plain = -torch.nn.functional.logsigmoid(BETA * (gaps[:, 0] - gaps[:, 1])).mean()
    job = partial(run_dpo_again, WORK, TrlSettings(), tmp_path, lr=1e-4, num_steps=1, max_length=None)
    found = alone(job, JobResult, num_threads=1)
    assert found.final_losses == pytest.approx([float(plain)], abs=1e-5)
    assert found.num_frozen_passes > 0
