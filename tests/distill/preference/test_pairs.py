import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data import CHAT_TEMPLATE, Conversation, Message, read_pairs
from distill.decoding import Generation, SamplingSettings, TransformersGenerator
from distill.errors import DataError
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer
from distill.preference import PairsSettings, build_pairs, write_pairs_stage
from distill.preference.pairs import pair_rows

GOOD, BAD = "good", "bad"


def pairs(rows, teacher, student, **settings):
    return build_pairs(rows, teacher=teacher, student=student, settings=PairsSettings(**settings), seed=0)


def test_the_teachers_answer_is_chosen_and_the_students_rejected(speaker, dialogue):
    report = pairs([dialogue("a", "q")], speaker(lambda prompt: GOOD), speaker(lambda prompt: BAD))
    (pair,) = report.pairs
    assert (pair.id, pair.chosen, pair.rejected) == ("a:0", GOOD, BAD)
    assert [message.content for message in pair.prompt] == ["be kind", "q"]


def test_both_models_see_the_teachers_own_earlier_answers(speaker, dialogue):
    student = speaker(lambda prompt: BAD)
    teacher = speaker(lambda prompt: f"t{len(prompt)}")
    report = pairs([dialogue("a", "q", "r", "s")], teacher, student, turn="all")
    assert [pair.id for pair in report.pairs] == ["a:0", "a:1", "a:2"]
    assert [message.content for message in report.pairs[2].prompt] == ["be kind", "q", "t2", "r", "t4", "s"]
    assert student.prompts == [pair.prompt for pair in report.pairs] == teacher.prompts


@pytest.mark.parametrize(("turn", "expected"), [("last", ["a:2", "b:0"]), ("all", ["a:0", "a:1", "a:2", "b:0"])])
def test_turn_says_which_user_turns_give_a_pair(speaker, dialogue, turn, expected):
    rows = [dialogue("a", "q", "r", "s"), dialogue("b", "q")]
    report = pairs(rows, speaker(lambda prompt: GOOD), speaker(lambda prompt: BAD), turn=turn)
    assert [pair.id for pair in report.pairs] == expected


def test_random_turns_give_one_pair_a_conversation_and_depend_on_the_seed_only(speaker, dialogue):
    rows = [dialogue(f"{number}", "q", "r", "s") for number in range(30)]

    def chosen_turns(seed: int) -> list[str]:
        report = build_pairs(
            rows,
            teacher=speaker(lambda prompt: GOOD),
            student=speaker(lambda prompt: BAD),
            settings=PairsSettings(turn="random"),
            seed=seed,
        )
        return [pair.id for pair in report.pairs]

    first = chosen_turns(0)
    assert [name.split(":")[0] for name in first] == [row.id for row in rows]
    assert {name.split(":")[1] for name in first} == {"0", "1", "2"}
    assert first == chosen_turns(0) != chosen_turns(1)


def test_the_teacher_answers_no_turn_beyond_the_one_that_is_needed(speaker, dialogue):
    teacher = speaker(lambda prompt: GOOD)
    rows = pair_rows(
        [dialogue("1", "q", "r", "s")],
        teacher=teacher,
        student=speaker(lambda prompt: BAD),
        settings=PairsSettings(turn="random"),
        seed=0,
    )
    assert len(teacher.prompts) == int(str(rows[0]["id"]).split(":")[1]) + 1


@pytest.mark.parametrize(
    ("teacher_says", "student_says", "reason"),
    [
        (GOOD, " good\n", "identical"),
        ("", BAD, "teacher_empty"),
        (GOOD, " ", "student_empty"),
        (Generation("go", 9, "length"), BAD, "teacher_unfinished"),
        (GOOD, Generation("ba", 9, "length"), "student_unfinished"),
    ],
)
def test_a_turn_without_a_usable_pair_is_dropped_and_its_reason_counted(
    speaker, dialogue, teacher_says, student_says, reason
):
    report = pairs([dialogue("a", "q")], speaker(lambda prompt: teacher_says), speaker(lambda prompt: student_says))
    assert report.pairs == ()
    assert {name: count for name, count in report.dropped.items() if count} == {reason: 1}
    totals = report.num_identical_dropped, report.num_empty_dropped, report.num_unfinished_dropped
    assert totals == (reason == "identical", reason.endswith("empty"), reason.endswith("unfinished"))


def test_unfinished_answers_are_kept_only_on_request(speaker, dialogue):
    teacher, student = speaker(lambda prompt: GOOD), speaker(lambda prompt: Generation("ba", 9, "length"))
    assert len(pairs([dialogue("a", "q")], teacher, student, keep_unfinished=True).pairs) == 1


def test_a_turn_after_a_lost_answer_is_dropped_for_its_context(speaker, dialogue):
    teacher = speaker(lambda prompt: "" if prompt[-1].content == "q" else GOOD)
    student = speaker(lambda prompt: BAD)
    report = pairs([dialogue("a", "q", "r", "s")], teacher, student, turn="all")
    assert (report.dropped["teacher_empty"], report.dropped["context"]) == (1, 2)
    assert student.prompts == []


def test_max_pairs_stops_asking_and_counts_what_is_beyond(speaker, dialogue):
    rows = [dialogue(f"{number}", "q") for number in range(9)]
    teacher = speaker(lambda prompt: GOOD)
    report = build_pairs(
        rows,
        teacher=teacher,
        student=speaker(lambda prompt: BAD),
        settings=PairsSettings(max_pairs=3),
        seed=0,
        prompts_per_block=2,
    )
    assert [pair.id for pair in report.pairs] == ["0:0", "1:0", "2:0"]
    assert len(teacher.prompts) == report.num_asked == 4
    assert report.dropped["beyond_max_pairs"] == 1


replies = st.sampled_from(["", "same", "x", "y", Generation("x", 3, "length")])


@given(
    talks=st.lists(st.lists(st.tuples(replies, replies), min_size=1, max_size=3), max_size=6),
    turn=st.sampled_from(["all", "last"]),
)
def test_every_turn_asked_is_kept_or_dropped_for_one_reason(speaker, talks, turn):
    script = {(i, t): answers for i, talk in enumerate(talks) for t, answers in enumerate(talk)}
    rows = [
        Conversation(str(i), tuple(Message("user", f"{i} {t}") for t in range(len(talk))))
        for i, talk in enumerate(talks)
    ]

    def part(side: int):
        return speaker(lambda prompt: script[tuple(int(word) for word in prompt[-1].content.split())][side])

    report = pairs(rows, part(0), part(1), turn=turn)
    asked = sum(len(talk) if turn == "all" else 1 for talk in talks)
    assert report.num_asked == asked == len(report.pairs) + sum(report.dropped.values())
    assert all(pair.chosen.strip() and pair.rejected.strip() != pair.chosen.strip() for pair in report.pairs)


def test_each_model_has_its_own_sampling_and_seed(speaker, dialogue):
    teacher, student = speaker(lambda prompt: GOOD), speaker(lambda prompt: BAD)
    warm, cold = SamplingSettings(temperature=1.0), SamplingSettings(temperature=0.0)
    pairs([dialogue("a", "q")], teacher, student, teacher_sampling=cold, student_sampling=warm)
    assert (teacher.settings, student.settings) == ({cold}, {warm})
    assert not teacher.seeds & student.seeds


def test_two_conversations_of_one_id_are_refused(speaker, dialogue):
    with pytest.raises(DataError, match="two conversations have the id 'a'"):
        pairs([dialogue("a", "q"), dialogue("a", "r")], speaker(lambda prompt: GOOD), speaker(lambda prompt: BAD))


def test_a_stage_that_is_cut_off_goes_on_and_writes_what_an_uncut_one_writes(speaker, dialogue, tmp_path):
    rows = [dialogue(name, "q", f"r{name}") for name in "abcde"]

    def stopping(prompt) -> str:
        if prompt[-1].content == "rd":
            raise KeyboardInterrupt
        return BAD

    def stage(student, folder):
        return write_pairs_stage(
            rows,
            teacher=speaker(lambda prompt: GOOD),
            student=student,
            settings=PairsSettings(turn="all"),
            seed=0,
            output_dir=folder,
            prompts_per_block=2,
        )

    with pytest.raises(KeyboardInterrupt):
        stage(speaker(stopping), tmp_path / "cut")
    assert not (tmp_path / "cut" / "pairs.jsonl").exists()
    second = speaker(lambda prompt: BAD)
    report = stage(second, tmp_path / "cut")
    assert len(second.prompts) == 6
    assert report == stage(speaker(lambda prompt: BAD), tmp_path / "whole")
    for name in ("pairs.jsonl", "report.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert tuple(read_pairs(tmp_path / "cut" / "pairs.jsonl")) == report.pairs


def test_the_report_counts_every_reason(speaker, dialogue, tmp_path):
    report = write_pairs_stage(
        [dialogue("a", "q"), dialogue("b", "r")],
        teacher=speaker(lambda prompt: GOOD),
        student=speaker(lambda prompt: GOOD if prompt[-1].content == "q" else BAD),
        settings=PairsSettings(),
        seed=0,
        output_dir=tmp_path,
    )
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == report.to_json()
    assert (written["num_pairs"], written["num_asked"], written["num_identical_dropped"]) == (1, 2, 1)
    assert written["num_teacher_unfinished_dropped"] == 0


def test_pairs_of_other_models_are_made_anew(speaker, dialogue, tmp_path):
    def stage(answer: str, models_fingerprint: str):
        return write_pairs_stage(
            [dialogue("a", "q")],
            teacher=speaker(lambda prompt: answer),
            student=speaker(lambda prompt: BAD),
            settings=PairsSettings(),
            seed=0,
            output_dir=tmp_path,
            models_fingerprint=models_fingerprint,
        )

    stage("old", "first")
    assert stage("new", "first").pairs[0].chosen == "old"
    assert stage("new", "second").pairs[0].chosen == "new"


def test_two_real_models_give_pairs_that_a_rerun_repeats(dialogue, tmp_path):
    tokenizer = train_tokenizer(["a small latte please"], vocab_size=270, chat_template=CHAT_TEMPLATE)
    scratch = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32)
    teacher, student = (
        TransformersGenerator(LoadedModel(new_model(scratch, tokenizer, seed=seed), tokenizer, "tiny", "tiny"))
        for seed in (0, 1)
    )
    sampling = SamplingSettings(max_new_tokens=3)
    settings = PairsSettings(teacher_sampling=sampling, student_sampling=sampling, turn="last", keep_unfinished=True)
    rows = [dialogue(f"{number}", f"latte {number}", "tea") for number in range(4)]
    common = {"teacher": teacher, "student": student, "settings": settings, "seed": 0}
    report = write_pairs_stage(rows, output_dir=tmp_path, **common)
    assert report.num_asked == 4
    assert report == build_pairs(rows, **common)
