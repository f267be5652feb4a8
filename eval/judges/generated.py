"""A chat model in this process as a judge that writes its verdicts, read as any judge's words are."""

from collections.abc import Iterator, Mapping, Sequence

from distill.decoding import Generation, Generator, SamplingSettings
from eval.judges.base import JudgeReply
from eval.mt_bench.matches import Match


class GeneratorJudge:
    """Asks a generator; see `eval.judges.base.Judge`.

    Args:
        generator: what writes.
        name: names the judgment files.
        model_fingerprint: of what writes: weights, template.
        sampling: temperature, cuts, and the longest reply; one that is cut off is asked once more with twice as much.
        seed: of the draws, raised by one with each repeat; without effect at temperature 0.
    """

    def __init__(
        self, generator: Generator, *, name: str, model_fingerprint: str, sampling: SamplingSettings, seed: int = 0
    ) -> None:
        self.name, self._generator, self._fingerprint = name, generator, model_fingerprint
        self._sampling, self._seed = sampling, seed

    @property
    def identity(self) -> Mapping[str, object]:
        """The weights and the sampling."""
        sampling = self._sampling.model_dump(mode="json", exclude={"batch_size"})
        return {"kind": "local", "model": self._fingerprint, "sampling": sampling, "seed": self._seed}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies batch by batch, in the order of the matches; repeats of a match are drawn apart."""
        for repeat in sorted({match.repeat for match in matches}):
            indices = [index for index, match in enumerate(matches) if match.repeat == repeat]
            for start in range(0, len(indices), self._sampling.batch_size):
                block = indices[start : start + self._sampling.batch_size]
                replies = self._replies([matches[index] for index in block], repeat)
                yield from zip(block, replies, strict=True)

    def _replies(self, matches: Sequence[Match], repeat: int) -> list[JudgeReply]:
        prompts = [match.messages for match in matches]
        written = self._generator.generate(prompts, self._sampling, seed=self._seed + repeat)
        cut = [position for position, generation in enumerate(written) if generation.finish_reason == "length"]
        num_tokens = [generation.num_tokens for generation in written]
        if cut:
            longer = self._sampling.model_copy(update={"max_new_tokens": 2 * self._sampling.max_new_tokens})
            again = self._generator.generate([prompts[i] for i in cut], longer, seed=self._seed + repeat)
            for position, generation in zip(cut, again, strict=True):
                written[position] = generation
                num_tokens[position] += generation.num_tokens
        return [self._reply(*pair) for pair in zip(written, num_tokens, strict=True)]

    def _reply(self, generation: Generation, num_tokens: int) -> JudgeReply:
        return JudgeReply(
            generation.text,
            finish_reason=generation.finish_reason,
            model=self.name,
            num_completion_tokens=num_tokens,
        )
