import pytest

from distill.errors import DataError
from eval.mt_bench.prompt_sets import prompt_set
from tests.judge_cases import PROMPTS


def test_turn_and_reference_choose_among_the_four():
    chosen = prompt_set(PROMPTS, mode="single")
    names = {(turn, has): chosen.choose(turn=turn, has_reference=has).name for turn in (1, 2) for has in (False, True)}
    assert names == {
        (1, False): "own",
        (1, True): "own-reference",
        (2, False): "own-turns",
        (2, True): "own-reference-turns",
    }


def test_fastchats_names_are_known(public_mt_bench):
    from eval.mt_bench.judge_prompts import read_judge_prompts

    prompts = read_judge_prompts(public_mt_bench / "official" / "judge_prompts.jsonl")
    assert prompt_set(prompts, mode="single").names == (
        "single-v1",
        "single-math-v1",
        "single-v1-multi-turn",
        "single-math-v1-multi-turn",
    )
    assert prompt_set(prompts, mode="pair").choose(turn=2, has_reference=True).name == "pair-math-v1-multi-turn"


def test_a_set_must_be_named_where_there_are_several():
    two = PROMPTS | {"other": PROMPTS["own"]}
    with pytest.raises(DataError, match=r"(?s)several sets for mode single.*other, own"):
        prompt_set(two, mode="single")
    assert prompt_set(two, mode="single", name="own").names[0] == "own"


@pytest.mark.parametrize("name", ["own-turns", "absent", "duel"])
def test_what_begins_no_set_of_the_mode_is_refused(name: str):
    with pytest.raises(DataError, match=rf"(?s)no set '{name}' for mode single.*there are: own"):
        prompt_set(PROMPTS, mode="single", name=name)


def test_a_missing_prompt_is_missed_when_it_is_needed():
    chosen = prompt_set({"own": PROMPTS["own"]}, mode="single")
    assert chosen.choose(turn=1, has_reference=False).name == "own"
    with pytest.raises(DataError, match=r"(?s)hold no own-turns.*turn 2 without a reference answer"):
        chosen.choose(turn=2, has_reference=False)
