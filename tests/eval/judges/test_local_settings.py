import json

import pytest

from distill.errors import ModelError, RecipeError
from distill.models import save_model
from distill.models.scalar_head import with_scalar_head
from distill.reward import (
    EnergyHead,
    EnergyHeadSettings,
    EnergyRewardModel,
    RefineSettings,
    RewardScale,
    load_reward_model,
    save_energy_model,
)
from eval.judges.generated import GeneratorJudge
from eval.judges.local_settings import RubricSettings, chosen_rubric
from eval.judges.logit import LogitJudge
from eval.judges.reward import RewardJudge
from eval.judges.table import open_judge
from tests.judge_cases import pairs


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    path, loaded = tmp_path_factory.mktemp("judges") / "small-judge", make_model(0)
    save_model(loaded.model, loaded.tokenizer, path)
    save_model(with_scalar_head(loaded.model, loaded.model.lm_head.weight[0]), loaded.tokenizer, path / "reward")
    return path


@pytest.mark.parametrize(
    ("kind", "expected", "name"), [("logit", LogitJudge, "small-judge-logit"), ("local", GeneratorJudge, "small-judge")]
)
def test_chat_models_open_as_judges_named_after_their_folder(folder, kind, expected, name):
    judge = open_judge(kind, {"model": str(folder), "device": "cpu"}, mode="pair")
    assert isinstance(judge, expected)
    assert judge.name == name
    assert open_judge(kind, {"model": str(folder), "device": "cpu"}, mode="pair").identity == judge.identity


def test_reward_models_open_as_judges(folder):
    judge = open_judge("reward", {"model": str(folder / "reward"), "device": "cpu"}, mode="pair", name="rm")
    assert isinstance(judge, RewardJudge)
    assert judge.name == "rm-reward"
    assert {reply.verdict.status for _, reply in judge.judge(pairs(1))} == {"ok"}


def test_ebrms_open_as_judges(folder, tmp_path):
    base = load_reward_model(folder / "reward", device="cpu")
    size = base.loaded.model.config.hidden_size
    head = EnergyHead(size, EnergyHeadSettings(reward_widths=(4,), joint_widths=(8,))).eval()
    model = EnergyRewardModel(base, head, RewardScale(), RefineSettings(max_steps=2))
    save_energy_model(model, tmp_path / "mine")
    judge = open_judge("ebrm", {"model": str(tmp_path / "mine"), "device": "cpu"}, mode="pair")
    assert judge.name == "mine-ebrm-reward"
    assert judge.identity["model"] == model.identity
    for index, reply in judge.judge(pairs(1)):
        match = pairs(1)[index]
        first, second = model.score([match.conversation(0), match.conversation(1)]).tolist()
        assert reply.verdict.winner == ("A" if first > second else "B" if second > first else "tie")
    with pytest.raises(ModelError, match="it is no EBRM"):
        open_judge("ebrm", {"model": str(folder)}, mode="pair")


def test_rubrics_are_chosen_by_name(tmp_path):
    assert chosen_rubric(RubricSettings(criterion="clarity")).name == "clarity"
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"name": "wit", "criterion": "Is it witty?", "scores": list("abcde")}) + "\n")
    assert chosen_rubric(RubricSettings(criterion="wit", rubrics=own)).criterion == "Is it witty?"
    with pytest.raises(RecipeError, match=r"(?s)criterion is 'charm'.*there are: correctness, instructions"):
        chosen_rubric(RubricSettings(criterion="charm"))
