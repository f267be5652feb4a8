import pytest

from distill.data import Conversation, Message
from distill.decoding import Generation
from distill.embedded import Verdict
from eval.accuracy import accuracy, turn_fact
from eval.checkers import Judged, JudgedConversation, JudgedTurn


def judged(name: str, verdicts: list[Verdict], *, categories: list[str] | None = None) -> JudgedConversation:
    facts = {} if categories is None else {"turns": [{"category": c, "intent": f"{c}.x"} for c in categories]}
    conversation = Conversation(name, tuple(Message("user", "?") for _ in verdicts), facts)
    turns = (
        JudgedTurn(Generation("!", 10 + number, "length" if number else "stop"), verdict)
        for number, verdict in enumerate(verdicts)
    )
    return JudgedConversation(conversation, tuple(turns))


RIGHT, WRONG, OTHER_VOICE = Verdict(True), Verdict(False, ("intent", "slot:price")), Verdict(True, ("personality",))


def test_accuracy_known_answer():
    """Three right of four turns; one of four without any reason missing: strict 2/4. Unfinished: second turns, 2/4."""
    rows = Judged((judged("a", [RIGHT, WRONG]), judged("b", [RIGHT, OTHER_VOICE])), num_unchecked=5)
    measured = accuracy(rows, seed=0)
    assert measured is not None
    assert measured.overall.mean == 0.75
    assert measured.strict.mean == 0.5
    assert measured.reasons == {"intent": 1, "slot:price": 1, "personality": 1}
    assert (measured.num_conversations, measured.num_turns, measured.num_unchecked) == (2, 4, 5)
    assert measured.share_unfinished == 0.5
    assert measured.mean_tokens == 10.5
    assert measured.by_turn["turn 1"].mean == 1.0
    assert measured.by_turn["turn 2"].mean == 0.5


def test_groups_are_of_turns_and_turns_without_facts_are_in_none():
    rows = (
        judged("a", [RIGHT, WRONG], categories=["menu", "sums"]),
        judged("b", [WRONG, WRONG], categories=["menu", "menu"]),
        judged("c", [RIGHT]),
    )
    measured = accuracy(Judged(rows, 0), seed=0)
    assert measured is not None
    assert {name: value.mean for name, value in measured.by_category.items()} == {
        "menu": pytest.approx(1 / 3),
        "sums": 0.0,
    }
    assert set(measured.by_intent) == {"menu.x", "sums.x"}


def test_repeating_each_turn_inside_its_conversation_does_not_narrow_the_interval():
    """The conversation is the cluster: ten copies of a turn tell nothing new."""
    once = [judged(str(n), [RIGHT if n % 2 else WRONG]) for n in range(20)]
    tenfold = [judged(str(n), [RIGHT if n % 2 else WRONG] * 10) for n in range(20)]
    first, second = (accuracy(Judged(tuple(rows), 0), seed=3) for rows in (once, tenfold))
    assert first is not None
    assert second is not None
    assert first.overall == second.overall


def test_an_interval_keeps_its_width_when_all_answers_are_right():
    """Wilson at 10 of 10 with z = 1.96: low end 1 / (1 + z^2 / 10) = 0.722."""
    measured = accuracy(Judged(tuple(judged(str(n), [RIGHT, RIGHT]) for n in range(10)), 0), seed=0)
    assert measured is not None
    assert measured.overall.mean == 1.0
    assert measured.overall.low == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6)


def test_no_checkable_conversation_has_no_accuracy():
    assert accuracy(Judged((), 7), seed=0) is None


def test_facts_of_another_shape_name_no_group():
    row = judged("a", [RIGHT], categories=["menu"])
    assert turn_fact(row, 0, name="category") == "menu"
    assert turn_fact(row, 1, name="category") is None
    assert turn_fact(row, 0, name="absent") is None
