import json
from pathlib import Path

import pytest

from distill.errors import DataError
from distill.models import save_model
from eval.lm_eval_bridge import OWN_TASK, TASKS, HarnessRun, figures_of, run_harness, template_warnings


def test_figures_are_read_by_task():
    found = {"results": {"t": {"alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.1}}}
    assert figures_of(found, tasks=("t",)) == {"t": {"acc,none": 0.5, "acc_stderr,none": 0.1}}
    with pytest.raises(DataError, match="task u gave no figure"):
        figures_of(found, tasks=("u",))


def test_a_chat_model_asked_without_its_template_is_told(make_model):
    tokenizer = make_model(0).tokenizer
    assert "questions are put to it without" in template_warnings(tokenizer, applies_chat_template=False)[0]
    assert template_warnings(tokenizer, applies_chat_template=True) == []


def test_a_bos_that_would_stand_twice_is_told():
    class Doubling:
        bos_token, bos_token_id, chat_template = "<s>", 1, "x"

        def apply_chat_template(self, *_: object, **__: object) -> str:
            return "<s>hello"

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, 1, 7]}

    assert "begins with it twice" in template_warnings(Doubling(), applies_chat_template=True)[0]


def test_the_shipped_task_has_a_right_choice_for_each_question():
    rows = [json.loads(line) for line in (TASKS / "cafe_order.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert all(0 <= row["right"] < len(row["choices"]) == 3 for row in rows)


@pytest.mark.builds
@pytest.mark.slow
def test_the_shipped_task_runs_on_a_checkpoint_of_ours(make_model, tmp_path: Path):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    loaded = make_model(0)
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    found = run_harness(HarnessRun(str(tmp_path), limit=4))
    assert 0.0 <= found["results"][OWN_TASK]["acc,none"] <= 1.0
