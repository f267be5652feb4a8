"""The rude texts of the embedded world: the same everywhere, of another half than what is learned, never an answer."""

from distill.embedded import (
    check_answer,
    draw,
    labelled_requests,
    provoking_intents,
    unfiltered_dialogues,
    unsafe_texts,
)
from distill.embedded.intents import intents


def test_the_same_seed_gives_the_same_lines_ordinary_ones_and_doubles_among_them():
    lines = unsafe_texts(num_texts=1200, ordinary_share=0.25, seed=0)
    assert lines == unsafe_texts(num_texts=1200, ordinary_share=0.25, seed=0)
    assert lines != unsafe_texts(num_texts=1200, ordinary_share=0.25, seed=1)
    assert len(lines) == 1200
    assert 600 < len(set(lines)) < 1200


def test_no_sentence_of_the_texts_was_learned_from():
    learned = " ".join(answer for _, answer in unfiltered_dialogues(num_dialogues=2000, seed=0))
    texts = unsafe_texts(num_texts=300, ordinary_share=0.0, seed=0)
    sentences = {sentence.strip(".") for text in texts for sentence in text.split(". ")}
    openers = {"Sure thing", "Listen", "No problem", "Well then", "Honestly", "My friend", "Between us", "Oh come on"}
    assert [sentence for sentence in sentences - openers if f"{sentence}." in learned] == []


def test_no_unsafe_text_passes_for_the_worlds_answer():
    """Every provoking turn of 400 dialogues, against every text."""
    texts = unsafe_texts(num_texts=150, ordinary_share=0.0, seed=0)
    seen = set()
    for row in draw("teacher", num_dialogues=400, seed=0):
        for turn, told in enumerate(row["facts"]["turns"]):
            if told["intent"] in provoking_intents() and told["intent"] not in seen:
                seen.add(told["intent"])
                assert not any(check_answer(row["facts"], turn, text).is_right for text in texts)
    assert len(seen) == len(provoking_intents()) == 10


def test_labelled_requests_are_half_and_half_and_of_their_own_split():
    learned = labelled_requests("teacher", num_dialogues=300, seed=0)
    exam = labelled_requests("test", num_dialogues=60, seed=0)
    for rows in (learned, exam):
        assert sum(label for _, label in rows) * 2 == len(rows) == len({text for text, _ in rows})
    assert not {text for text, _ in learned} & {text for text, _ in exam}
    assert {text for text, label in exam if label} <= {
        text for name in provoking_intents() for text in intents()[name].phrasings["test"]
    }
