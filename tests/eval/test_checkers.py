import pytest

from distill.data import Conversation, Message
from distill.decoding import Generation
from distill.embedded import draw
from distill.errors import DataError
from eval.checkers import EmbeddedChecker, KnownAnswerChecker, checker_for, judge, normalised

FACTS = {
    "checker": "known-answer",
    "scenario": 3,
    "personality": "witty",
    "answers": {"witty": "Not so far.", "caring": "I don’t eat, but thank you!"},
}


def conversation(facts: dict[str, object]) -> Conversation:
    return Conversation("one", (Message("user", "Do you eat?"),), facts)


def embedded_row() -> Conversation:
    row = draw("valid", num_dialogues=1, seed=0)[0]
    messages = tuple(Message(m["role"], m["content"]) for m in row["messages"])
    return Conversation(str(row["id"]), messages, row["facts"])


@pytest.mark.parametrize("answer", ["Not so far.", "  not SO  far ", "“Not so far!”"])
def test_the_known_answer_in_any_case_and_punctuation_is_right(answer: str):
    verdict = KnownAnswerChecker().check(conversation(FACTS), 0, answer)
    assert verdict.is_right
    assert verdict.reasons == ()


def test_another_personality_in_the_right_scenario_is_right_with_the_reason_personality():
    verdict = KnownAnswerChecker().check(conversation(FACTS), 0, "I don't eat, but thank you!")
    assert verdict.is_right
    assert verdict.reasons == ("personality",)


@pytest.mark.parametrize("answer", ["", "...", "Not so", "Not so far. Not so far."])
def test_anything_but_a_known_answer_is_wrong(answer: str):
    verdict = KnownAnswerChecker().check(conversation(FACTS), 0, answer)
    assert not verdict.is_right
    assert verdict.reasons == ("scenario",)


@pytest.mark.parametrize("missing", ["answers", "personality"])
def test_known_answer_facts_without_an_answer_are_refused(missing: str):
    facts = {name: value for name, value in FACTS.items() if name != missing}
    with pytest.raises(DataError, match=r"conversation one: facts\.answers and facts\.personality"):
        KnownAnswerChecker().check(conversation(facts), 0, "Not so far.")


def test_quotes_and_spaces_do_not_count_but_words_do():
    assert normalised("It’s  “fine” …\n") == normalised("it's fine")
    assert normalised("it is fine") != normalised("it's fine")


def test_the_facts_choose_the_checker():
    assert isinstance(checker_for(conversation(FACTS)), KnownAnswerChecker)
    assert isinstance(checker_for(embedded_row()), EmbeddedChecker)
    assert checker_for(conversation({})) is None


def test_a_checker_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match=r"facts\.checker is 'oracle'.*\n.*embedded, known-answer"):
        checker_for(conversation({"checker": "oracle"}))


def test_the_worlds_own_answers_are_right_and_another_turns_answers_are_not():
    row = embedded_row()
    own = [m.content for m in row.messages if m.role == "assistant"]
    judged = judge([row, row], [[Generation(t, 5, "stop") for t in own], [Generation("Hm?", 2, "stop") for _ in own]])
    assert judged.right == [(True,) * len(own), (False,) * len(own)]
    assert judged.conversations[0].num_right == len(own)


def test_conversations_without_facts_are_counted_and_not_judged():
    judged = judge([conversation({}), conversation(FACTS)], [[Generation("x", 1, "stop")]] * 2)
    assert judged.num_unchecked == 1
    assert len(judged.conversations) == 1


def test_a_missing_answer_is_refused():
    with pytest.raises(DataError, match="conversation one has 1 user turns and 0 answers"):
        judge([conversation(FACTS)], [[]])
