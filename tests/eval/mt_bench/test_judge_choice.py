import pytest

from distill.errors import EndpointError, RecipeError
from eval.mt_bench.judge_choice import OPENAI_KEY, OPENAI_URL, JudgeChoice, as_mode


def test_a_judge_model_alone_is_openais(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    values = JudgeChoice(model="gpt-4").values()
    assert values == {"model": "gpt-4", "base_url": OPENAI_URL, "api_key_env": OPENAI_KEY}


def test_a_plan_needs_no_key(monkeypatch: pytest.MonkeyPatch):
    """It asks nothing; the judge it plans for is the same one."""
    monkeypatch.delenv(OPENAI_KEY, raising=False)
    with pytest.raises(EndpointError, match=f"{OPENAI_KEY}, which is not set"):
        JudgeChoice(model="gpt-4").open("single")
    planned = JudgeChoice(model="gpt-4", is_asked=False).open("single")
    monkeypatch.setenv(OPENAI_KEY, "k")
    assert planned.identity == JudgeChoice(model="gpt-4").open("single").identity


def test_words_come_after_options():
    choice = JudgeChoice(model="m", base_url="http://a/v1", settings=("temperature=0.5", "model=n"), parallel=3)
    assert choice.values() == {"model": "n", "base_url": "http://a/v1", "temperature": 0.5, "max_concurrent": 3}
    assert choice.is_chat
    assert not JudgeChoice("mock").is_chat


def test_what_does_not_go_together_is_refused():
    with pytest.raises(RecipeError, match="base_url does not go with --judge mock"):
        JudgeChoice("mock", base_url="http://a/v1").values()
    with pytest.raises(RecipeError, match="--judge is oracle"):
        JudgeChoice("oracle").values()
    with pytest.raises(RecipeError, match="a judge of kind mock has no model"):
        JudgeChoice("mock", model="m").values()
    with pytest.raises(RecipeError, match="--mode is both"):
        as_mode("both")
