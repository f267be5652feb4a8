import json

import pytest

from distill.data import CHAT_TEMPLATE, Message, read_conversations
from distill.decoding import Generation, SamplingSettings, TransformersGenerator
from distill.errors import DataError
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer
from distill.preference import teacher_answers
from distill.preference.answers import refusal, with_answers

GREEDY = SamplingSettings(temperature=0.0, max_new_tokens=5)


def echo(prompt) -> str:
    """Names the question and how many messages stood before the answer."""
    return f"{prompt[-1].content}/{len(prompt)}"


def test_every_turn_is_answered_with_the_teachers_own_answers_before_it(speaker, dialogue, tmp_path):
    teacher = speaker(echo)
    found = teacher_answers([dialogue("a", "q", "r")], teacher=teacher, settings=GREEDY, seed=0, output_dir=tmp_path)
    assert [message.content for message in found[0].messages] == ["be kind", "q", "q/2", "r", "r/4"]
    assert teacher.prompts[1] == found[0].messages[:-1]
    assert found[0].facts == {"key": "a"}
    assert read_conversations(tmp_path / "conversations.jsonl") == found


def test_answers_the_data_holds_are_not_used(speaker, dialogue, tmp_path):
    plain = dialogue("a", "q", "r")
    system, first, second = plain.messages
    labelled = type(plain)("a", (system, first, Message("assistant", "known"), second), plain.facts)
    found = teacher_answers([labelled], teacher=speaker(echo), settings=GREEDY, seed=0, output_dir=tmp_path)
    assert [message.content for message in found[0].messages] == ["be kind", "q", "q/2", "r", "r/4"]


def test_conversations_with_an_empty_or_unfinished_answer_are_dropped_and_counted(speaker, dialogue, tmp_path):
    replies = {"q": "fine", "r": "  \n", "s": Generation("too lon", 5, "length")}
    rows = [dialogue("a", "q", "q"), dialogue("b", "q", "r"), dialogue("c", "s", "r"), dialogue("d", "q")]
    found = teacher_answers(
        rows, teacher=speaker(lambda prompt: replies[prompt[-1].content]), settings=GREEDY, seed=0, output_dir=tmp_path
    )
    assert [row.id for row in found] == ["a", "d"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == {
        "num_conversations": 4,
        "num_answered": 2,
        "num_empty_dropped": 1,
        "num_unfinished_dropped": 1,
    }


def test_a_run_that_is_cut_off_goes_on_where_it_was(speaker, dialogue, tmp_path):
    rows = [dialogue(name, f"q{name}") for name in "abcde"]

    def stopping(prompt) -> str:
        if prompt[-1].content == "qd":
            raise KeyboardInterrupt
        return echo(prompt)

    def ask(teacher, folder):
        return teacher_answers(rows, teacher=teacher, settings=GREEDY, seed=0, output_dir=folder, prompts_per_block=2)

    with pytest.raises(KeyboardInterrupt):
        ask(speaker(stopping), tmp_path / "cut")
    assert not (tmp_path / "cut" / "report.json").exists()
    second = speaker(echo)
    found = ask(second, tmp_path / "cut")
    assert [prompt[-1].content for prompt in second.prompts] == ["qc", "qd", "qe"]
    assert found == ask(speaker(echo), tmp_path / "whole")
    third = speaker(echo)
    assert ask(third, tmp_path / "cut") == found
    assert third.prompts == []


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": SamplingSettings()}, {"models_fingerprint": "other"}])
def test_other_inputs_are_answered_anew_and_the_old_report_does_not_stand(speaker, dialogue, tmp_path, change):
    common = {"settings": GREEDY, "seed": 0, "output_dir": tmp_path}
    teacher_answers([dialogue("a", "q")], teacher=speaker(lambda prompt: "old"), **common)

    def reply(prompt) -> str:
        assert not (tmp_path / "report.json").exists()
        return "new"

    found = teacher_answers([dialogue("a", "q")], teacher=speaker(reply), **{**common, **change})
    assert found[0].messages[-1].content == "new"


def test_a_block_with_a_conversation_nobody_asked_about_is_refused(speaker, dialogue, tmp_path):
    common = {"teacher": speaker(echo), "settings": GREEDY, "seed": 0, "output_dir": tmp_path}
    teacher_answers([dialogue("a", "q")], **common)
    block = tmp_path / "blocks" / "00000.jsonl"
    block.write_text(block.read_text().replace('"id": "a"', '"id": "z"'))
    with pytest.raises(DataError, match="holds conversation 'z', which was not asked"):
        teacher_answers([dialogue("a", "q")], **common)


@pytest.mark.parametrize(
    ("answer", "keep_unfinished", "reason"),
    [
        (Generation("yes", 2, "stop"), False, None),
        (Generation(" \n", 2, "stop"), True, "empty"),
        (Generation("ye", 2, "length"), False, "unfinished"),
        (Generation("ye", 2, "length"), True, None),
        (Generation("", 2, "length"), False, "empty"),
    ],
)
def test_why_an_answer_cannot_be_learned_from(answer, keep_unfinished, reason):
    assert refusal(answer, keep_unfinished=keep_unfinished) == reason


def test_answers_stand_after_their_questions(dialogue):
    messages = with_answers(dialogue("a", "q", "r", "s"), ["1", "2"])
    assert [message.content for message in messages] == ["be kind", "q", "1", "r", "2", "s"]
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_a_real_model_answers_the_same_in_blocks_of_any_size(dialogue, tmp_path):
    tokenizer = train_tokenizer(["a small latte please"], vocab_size=270, chat_template=CHAT_TEMPLATE)
    scratch = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32)
    loaded = LoadedModel(new_model(scratch, tokenizer, seed=0), tokenizer, "tiny", "tiny")
    rows = [dialogue(f"{number}", f"latte {number}") for number in range(6)]
    sampling = SamplingSettings(temperature=1.5, max_new_tokens=3)

    def block_rows(size: int) -> list[str]:
        folder = tmp_path / str(size)
        teacher_answers(
            rows,
            teacher=TransformersGenerator(loaded),
            settings=sampling,
            seed=0,
            output_dir=folder,
            prompts_per_block=size,
        )
        return [line for path in sorted(folder.glob("blocks/*.jsonl")) for line in path.read_text().splitlines()]

    assert block_rows(6) == block_rows(2)
