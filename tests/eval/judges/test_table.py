import pytest

from distill.errors import RecipeError
from eval.judges import BatchJudge, EndpointJudge, MockJudge, MockSettings, ReplayJudge
from eval.judges.table import open_judge
from eval.mt_bench.judging import judge_matches
from tests.judge_cases import singles


def test_each_kind_opens_its_judge(tmp_path):
    server = {"base_url": "http://127.0.0.1:9/v1", "model": "j"}
    old = judge_matches(MockJudge(MockSettings()), singles(1), tmp_path)
    cases = [("endpoint", server, EndpointJudge), ("batch", {"model": "j"}, BatchJudge), ("mock", {}, MockJudge)]
    for kind, values, expected in [*cases, ("replay", {"path": str(old.judgments)}, ReplayJudge)]:
        judge = open_judge(kind, values, mode="single", name="mine")
        assert isinstance(judge, expected)
        assert judge.name == "mine"


def test_unknown_kinds_and_settings_are_refused():
    with pytest.raises(
        RecipeError, match=r"(?s)judge kind 'mook' is not known.*known are endpoint, batch, replay, mock"
    ):
        open_judge("mook", {}, mode="single")
    with pytest.raises(RecipeError, match=r"(?s)judge mock: nois is not a known key \(did you mean noise"):
        open_judge("mock", {"nois": 1}, mode="single")
