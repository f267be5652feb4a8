import pytest

from distill.data import Conversation, Message
from distill.data.records import messages_from
from distill.decoding import Generation, SamplingSettings
from distill.embedded import draw
from distill.errors import DataError, RecipeError
from distill.models import load_model
from distill.settings import validated
from eval.steering import (
    OneReading,
    SteeringSettings,
    TurnMarks,
    marker,
    steering_figures,
    with_principle,
)
from eval.steering_figures import NO_PRINCIPLE, PROMPTING

ANSWERS = {"friendly": "Hi!", "witty": "Oh, you."}


def said(text: str) -> Generation:
    return Generation(text, 1, "stop")


def known(asked: str, personality: str, answers: dict[str, str]) -> Conversation:
    facts = {"checker": "known-answer", "personality": personality, "answers": answers}
    return Conversation(asked, (Message("system", "s"), Message("user", asked)), facts)


@pytest.mark.parametrize(
    ("text", "personality", "scenario", "both"),
    [
        ("hi", True, True, True),
        ("Oh you", False, True, False),
        ("Bye.", True, False, False),
        ("See me go.", False, False, False),
        ("Hm.", False, False, False),
    ],
)
def test_known_answers_tell_personality_and_scenario_apart(text, personality, scenario, both):
    """The friendly one is asked; "Bye." is friendly too, but answers another question."""
    asked = known("hello", "friendly", ANSWERS)
    mark = marker([asked, known("bye", "witty", {"friendly": "Bye.", "witty": "See me go."})])
    assert mark(asked, [said(text)]) == [TurnMarks(personality, scenario, both)]


def embedded_rows(count: int) -> list[Conversation]:
    rows = draw("test", num_dialogues=count, seed=0)
    return [Conversation(row["id"], messages_from(row["messages"], where="row"), row["facts"]) for row in rows]


def test_in_the_embedded_world_the_marker_words_tell_the_personality():
    """The world's own answers reach everything; another personality's word is no longer in character, yet right."""
    (row,) = embedded_rows(1)
    answers = [said(message.content) for message in row.messages if message.role == "assistant"]
    mark = marker([row])
    assert mark(row, answers) == [TurnMarks(True, True, True)] * len(answers)
    other = "playful" if row.facts["personality"] != "playful" else "warm"
    word = {"playful": "Hooray!", "warm": "Gladly!"}[other]
    assert mark(row, [said(f"{word} {answers[0].text}")]) == [TurnMarks(False, True, False)]


def test_the_principle_takes_the_place_of_the_system_message():
    asked = known("hello", "witty", ANSWERS)
    assert with_principle(asked, None) == asked
    messages = with_principle(asked, "Be {personality}, 100 %.").messages
    assert messages == (Message("system", "Be witty, 100 %."), Message("user", "hello"))


def test_a_conversation_without_a_personality_is_refused():
    with pytest.raises(DataError, match=r"facts.personality is None\nwhy: .*\nfix: "):
        with_principle(Conversation("a", (Message("user", "q"),)), "Be {personality}.")


def test_one_reading_is_with_or_without_the_system_message():
    class Echo:
        def generate(self, prompts, settings, *, seed):
            return [said(" ".join(message.role for message in prompt)) for prompt in prompts]

    prompt = [Message("system", "s"), Message("user", "q")]
    settings = SteeringSettings().sampling
    answers = [OneReading(Echo(), with_principle=side).generate([prompt], settings, seed=0) for side in (True, False)]
    assert [answer.text for (answer,) in answers] == ["system user", "user"]
    (other,) = OneReading(Echo(), with_principle=False, contrast="t").generate([prompt], settings, seed=0)
    assert other.text == "system user"


def test_the_principle_may_follow_a_system_message_that_stays_where_it_goes():
    asked = known("hello", "witty", ANSWERS)
    told = with_principle(asked, "Be {personality}.", system="Be brief.").messages[0]
    assert told == Message("system", "Be brief.\n\nBe witty.")
    settings = SteeringSettings(principle="Be {personality}.", system="Be brief.", ratios=(1,), norm_budgets=(2,))
    assert {one.contrast for one in settings.alignments().values()} == {"Be brief."}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratios": [-1]}, "ratios.* is -1"),
        ({"sampling": {"top_p": 0.5}}, "tokens are chosen in the nucleus of top_p alone"),
        ({"principle": ""}, "principle is ''"),
        ({"system": "Be brief."}, "system is set, but no principle"),
        ({"num_conversations": 1}, "num_conversations is 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(SteeringSettings, values, source="recipe")


@pytest.mark.slow
def test_the_embedded_teacher_is_steered():
    """At ratio 0 the figures are those of prompting; steering by a principle beats no principle."""
    settings = SteeringSettings(
        principle="Be {personality}.",
        ratios=(0, 3),
        num_conversations=6,
        num_speed_prompts=2,
        num_speed_rounds=1,
        sampling=SamplingSettings(temperature=0.0, max_new_tokens=12),
    )
    found = steering_figures(load_model("embedded"), embedded_rows(6), settings, seed=0)
    arms = {arm.name: arm for arm in found.arms}
    assert list(arms) == [NO_PRINCIPLE, PROMPTING, "ratio 0", "ratio 3"]
    assert arms["ratio 0"].personality == arms[PROMPTING].personality
    assert arms["ratio 0"].difference is not None
    assert arms["ratio 0"].difference.mean == 0
    assert arms["ratio 3"].personality.mean > arms[NO_PRINCIPLE].personality.mean
    assert arms["ratio 3"].cost is not None
