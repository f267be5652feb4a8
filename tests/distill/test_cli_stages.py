from distill.cli_principle import STEERED
from distill.cli_stages import ANSWERING_VERBS, STAGE_VERBS
from distill.pipeline import STAGES

WITH_OPTIONS_OF_THEIR_OWN = {"sft", "cache", "train", "export"}


def test_every_stage_has_one_verb():
    assert STAGE_VERBS.keys() | ANSWERING_VERBS.keys() | WITH_OPTIONS_OF_THEIR_OWN == STAGES.keys()
    assert len(STAGE_VERBS) + len(ANSWERING_VERBS) + len(WITH_OPTIONS_OF_THEIR_OWN) == len(STAGES)


def test_a_principle_may_steer_every_verb_that_takes_one():
    assert ANSWERING_VERBS.keys() | {"run", "sft"} == STEERED.keys()
