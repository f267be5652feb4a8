import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.records import Conversation, Message
from distill.errors import DataError, GateError
from eval.leakage import find_leakage, require_no_leakage

WORDS = [f"w{number}" for number in range(40)]


def asked(name, *turns, system=None, answer=None):
    messages = [] if system is None else [Message("system", system)]
    for turn in turns:
        messages.append(Message("user", turn))
        if answer is not None:
            messages.append(Message("assistant", answer))
    return Conversation(name, tuple(messages))


def words(first, last):
    return " ".join(WORDS[first:last])


def test_each_rule_finds_its_own():
    """The last prompt shares w0..w14 of its 30 words: three runs of 13 that cover 15: half of it."""
    prompts = [
        asked("same", "Write a poem!", "Now shorter."),
        asked("one turn", "What is the capital of France?", "And why?"),
        asked("short turn", "Now shorter.", "Hello there"),
        asked("run", words(0, 30)),
        asked("new", words(25, 40)),
    ]
    training = [
        asked("t1", "write a  POEM", "now shorter", answer="so be it"),
        asked("t2", "what is the capital of france", answer="Paris."),
        asked("t3", "Say this:", answer=words(0, 15)),
        asked("t4", "and?", system=words(0, 40)),
    ]
    report = find_leakage(prompts, training)
    assert [(leak.id, leak.rule, leak.found_in) for leak in report.leaked] == [
        ("same", "exact", "t1"),
        ("one turn", "turn", "t2"),
        ("run", "overlap", "t3"),
    ]
    assert report.leaked[2].overlap == 0.5
    assert (report.num_prompts, report.num_training, report.num_short, report.share) == (5, 4, 3, 0.6)
    with pytest.raises(GateError, match=r"3 of 5 evaluation prompts stand in the training data: same \(exact\) in t1"):
        require_no_leakage(report)


def test_twelve_words_in_common_are_none():
    report = find_leakage([asked("p", words(0, 24))], [asked("t", words(0, 12) + " other " + words(12, 24))])
    assert report.leaked == ()
    require_no_leakage(report)
    assert find_leakage([asked("p", words(0, 24))], [asked("t", words(0, 12))], ngram_words=12).leaked[0].overlap == 0.5


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_overlap_is_what_going_through_all_places_finds(prompt, text):
    """Words of the prompt within runs of three that stand in the text."""
    covered = {
        place
        for start in range(len(prompt) - 2)
        if any(text[other : other + 3] == prompt[start : start + 3] for other in range(len(text) - 2))
        for place in range(start, start + 3)
    }
    report = find_leakage(
        [asked("p", " ".join(prompt), "x")], [asked("t", " ".join(text))], ngram_words=3, largest_overlap=1e-9
    )
    expected = (
        [(len(covered) / len(prompt), "turn" if prompt == text and len(text) >= 6 else "overlap")] if covered else []
    )
    assert [(leak.overlap, leak.rule) for leak in report.leaked] == expected


@pytest.mark.parametrize(
    ("prompts", "training", "settings", "message"),
    [
        ([], [asked("t", "a")], {}, "no evaluation prompt"),
        ([asked("p", "a")], [], {}, "no training conversation to look in"),
        ([asked("p", "a")], [asked("t", "a")], {"ngram_words": 0}, "ngram_words is 0"),
        ([asked("p", "a")], [asked("t", "a")], {"largest_overlap": 0.0}, "largest_overlap 0.0"),
    ],
)
def test_nothing_to_compare_proves_nothing(prompts, training, settings, message):
    with pytest.raises(DataError, match=message):
        find_leakage(prompts, training, **settings)
