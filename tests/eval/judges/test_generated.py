import dataclasses

from distill.decoding import Generation, SamplingSettings
from eval.judges.generated import GeneratorJudge
from eval.mt_bench import read_single
from eval.mt_bench.judging import judge_matches
from tests.judge_cases import singles

SAMPLING = SamplingSettings(temperature=0.0, max_new_tokens=8, batch_size=3)


class CutGenerator:
    """Is cut off below a length; keeps lengths and seeds."""

    def __init__(self, *, needs: int) -> None:
        self.needs, self.asked = needs, []

    def generate(self, prompts, settings, *, seed):
        self.asked.append((len(prompts), settings.max_new_tokens, seed))
        if settings.max_new_tokens < self.needs:
            return [Generation("Rating: [[1", settings.max_new_tokens, "length")] * len(prompts)
        return [Generation("Good. Rating: [[7]]", 9, "stop")] * len(prompts)


def judge_of(generator) -> GeneratorJudge:
    return GeneratorJudge(generator, name="local", model_fingerprint="fp", sampling=SAMPLING)


def test_words_become_verdicts_in_batches(tmp_path):
    generator = CutGenerator(needs=1)
    judged = judge_matches(judge_of(generator), singles(2), tmp_path)
    assert [row.score for row in read_single(judged.judgments)] == [7] * 4
    assert [count for count, _, _ in generator.asked] == [3, 1]


def test_a_reply_that_is_cut_off_is_asked_once_more_with_twice_the_length():
    generator = CutGenerator(needs=16)
    [(_, reply)] = judge_of(generator).judge(singles(1)[:1])
    assert (reply.text, reply.finish_reason) == ("Good. Rating: [[7]]", "stop")
    assert reply.num_completion_tokens == 8 + 9
    assert [length for _, length, _ in generator.asked] == [8, 16]


def test_one_that_is_cut_off_twice_says_so():
    [(_, reply)] = judge_of(CutGenerator(needs=99)).judge(singles(1)[:1])
    assert reply.finish_reason == "length"


def test_repeats_are_drawn_with_other_seeds():
    generator, match = CutGenerator(needs=1), singles(1)[0]
    replies = dict(judge_of(generator).judge([dataclasses.replace(match, repeat=1), match]))
    assert sorted(replies) == [0, 1]
    assert [seed for _, _, seed in generator.asked] == [0, 1]
