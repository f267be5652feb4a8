from dataclasses import replace
from functools import partial

import pytest
import torch

from eval.speed import train_trl
from eval.speed.processes import alone
from eval.speed.teachers import random_teacher
from eval.speed.train_jobs import JobResult
from eval.speed.train_trl import TrlSettings
from eval.speed.train_trl_gkd import run_gkd_again
from eval.speed.train_work import STUDENT_SEED, TEACHER_SEED, WORKS, sequences

WORK = replace(WORKS["tiny"], num_pairs=2)


@pytest.mark.slow
@pytest.mark.skipif(not train_trl.is_installed(), reason="without TRL there is nothing to compare with")
def test_the_jobs_one_step_has_the_plain_forward_kl_of_its_answers(tmp_path):
    """KL(teacher || student), a mean over the answers' tokens."""
    models = [random_teacher(WORK.teacher, seed=TEACHER_SEED), random_teacher(WORK.student, seed=STUDENT_SEED)]
    divergences = []
    for answer in sequences(WORK.pairs()):
        row = torch.tensor([[*answer.prompt_ids, *answer.completion_ids]])
        with torch.no_grad():
            teacher, student = (
                one.model(input_ids=row).logits[0, len(answer.prompt_ids) - 1 : -1].double().log_softmax(-1)
                for one in models
            )
        divergences.append((teacher.exp() * (teacher - student)).sum(-1))
    plain = float(torch.cat(divergences).mean())
    job = partial(run_gkd_again, WORK, TrlSettings(), tmp_path, lr=1e-4, num_steps=1)
    found = alone(job, JobResult, num_threads=1)
    assert found.final_losses == pytest.approx([plain], abs=1e-5)
    assert found.num_frozen_passes == 1
