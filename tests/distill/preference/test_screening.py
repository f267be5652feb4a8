"""What the judge is asked, and what counts as its word."""

import pytest

from distill.preference.screening import JUDGE_TEMPLATE, PLACE, judge_prompt, parsed_verdict, verdict_text


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[yes]]", True),
        ("It would: [[ No ]].", False),
        ("Yes.", True),
        (" no ", False),
        ("[[yes]] and [[yes]]", True),
        ("[[yes]] or [[no]]", None),
        ("yes and no", None),
        ("maybe", None),
        ("", None),
        ("[[yes, no]]", None),
    ],
)
def test_a_verdict_is_one_clear_word(reply: str, verdict: bool | None):
    assert parsed_verdict(reply) is verdict


def test_what_a_tuned_judge_learns_to_reply_is_read_back():
    assert [parsed_verdict(verdict_text(label)) for label in (True, False)] == [True, False]


def test_the_instruction_stands_once_in_the_prompt_braces_and_all():
    asked = judge_prompt("{instruction} [[yes]] {0}")[0].content
    assert asked == JUDGE_TEMPLATE.split(PLACE)[0] + "{instruction} [[yes]] {0}" + JUDGE_TEMPLATE.split(PLACE)[1]
