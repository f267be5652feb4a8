import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval.mt_bench.judge_prompts import JudgePrompt, fill, read_judge_prompts, write_judge_prompts

ROW = {
    "name": "single-v1",
    "type": "single",
    "system_prompt": "Be fair.",
    "prompt_template": "{{Rate}} {answer} to {question}",
    "description": "general",
    "category": "general",
    "output_format": "[[rating]]",
}


def test_a_template_is_filled_once_and_what_was_inserted_is_never_read_again():
    """The answer holds a placeholder, a verdict and braces; all three stay text."""
    values = {"question": "Q {answer} {{x}}", "answer": "{question} {gold} [[10]] \\1 {"}
    assert fill("{{A}} {answer} | {question}", values) == "{A} {question} {gold} [[10]] \\1 { | Q {answer} {{x}}"


@given(
    parts=st.lists(st.sampled_from(["{question}", "{answer_a_1}", "{{", "}}", "\n", "[[10]]", "text"]), max_size=12),
    question=st.text("{}[]0a_question\\", max_size=20),
    answer=st.text("{}[]0a_question\\", max_size=20),
)
def test_filling_is_str_format_for_plain_names(parts: list[str], question: str, answer: str):
    template = "".join(parts)
    values = {"question": question, "answer_a_1": answer}
    assert fill(template, values) == template.format(**values)


@pytest.mark.parametrize("template", ["{", "}", "a } b", "{question", "{question}}"])
def test_a_lone_brace_is_refused(template: str):
    with pytest.raises(DataError, match=r"lone [{}] at character"):
        fill(template, {"question": "q"})


@pytest.mark.parametrize("name", ["gold", "", "0", "question!r", "question:>9", "question.__class__"])
def test_a_name_without_a_value_is_refused(name: str):
    with pytest.raises(DataError, match="a judge's template asks for"):
        fill(f"a {{{name}}}", {"question": "q"})


def test_a_judge_prompt_survives_the_round_trip_and_the_last_of_a_name_counts(tmp_path: Path):
    path = tmp_path / "judge_prompts.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "system_prompt": ""}) + "\n")
    prompts = read_judge_prompts(path)
    assert prompts == {"single-v1": JudgePrompt(**{**ROW, "system_prompt": ""})}
    write_judge_prompts(path, prompts.values())
    assert json.loads(path.read_text()) == {**ROW, "system_prompt": ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "triple"}, r"judge_prompts\.jsonl:1: type is 'triple'"),
        ({"name": ""}, r"jsonl:1: name is ''"),
        ({"system_prompt": None}, r"jsonl:1: system_prompt is None"),
        ({"output_format": "[[A]]"}, r"jsonl:1: output_format is '\[\[A\]\]'(?s:.*)single prompts know \[\[rating\]\]"),
        ({"prompt_template": "{gold}"}, r"jsonl:1: prompt_template holds '\{gold\}'"),
        ({"prompt_template": "a { b"}, r"jsonl:1: prompt_template holds '\{'"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_by_file_and_line(tmp_path: Path, change, message):
    path = tmp_path / "judge_prompts.jsonl"
    path.write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(DataError, match=message):
        read_judge_prompts(path)


def test_a_file_without_prompts_is_refused(tmp_path: Path):
    (tmp_path / "judge_prompts.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no judge prompt"):
        read_judge_prompts(tmp_path / "judge_prompts.jsonl")


def test_fastchats_own_judge_prompts_survive_the_round_trip(public_mt_bench: Path, tmp_path: Path):
    source = public_mt_bench / "official" / "judge_prompts.jsonl"
    prompts = read_judge_prompts(source)
    assert len(prompts) == 8
    write_judge_prompts(tmp_path / "copy.jsonl", prompts.values())
    assert _rows(tmp_path / "copy.jsonl") == _rows(source)
    values = {
        f"{name}{turn}": f"<{name}{turn}>"
        for name in ("question", "answer", "answer_a", "answer_b", "ref_answer")
        for turn in ("", "_1", "_2")
    }
    for prompt in prompts.values():
        assert fill(prompt.prompt_template, values) == prompt.prompt_template.format(**values)


def _rows(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]
