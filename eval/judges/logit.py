"""A language model as a judge whose verdict is read from its next-token probabilities, not from words it writes.

The judge prompt is rendered with the model's chat template, the model's own words are forced up to the verdict, and
what it would write next is compared: A, B or C for a pair, 1 to 10 for a single answer, whose score is the expected
rating. There is nothing to parse, so nothing fails to parse, and what an answer says about verdicts is never taken for
one. It is another protocol than a written verdict (the model does not reason first), which the judge's name says
(`NAME-logit`).

Source:
    The weighted judge of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475, sec. 2); expected ratings:
    G-Eval (Liu et al. 2023, arXiv:2303.16634, sec. 2, eq. 1).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import render_prompt, template_hash
from distill.data.packing import batches_by_length
from distill.decoding.continuations import choice_tokens, continuation_log_probs
from distill.errors import RecipeError
from distill.models import LoadedModel
from distill.models.adapters import without_adapters
from eval.judges.base import JudgeReply
from eval.mt_bench.matches import Match
from eval.mt_bench.verdicts import Verdict, Winner

DIGITS = 4
VERDICT_TEXTS: dict[str, tuple[str, ...]] = {
    "[[rating]]": tuple(f"Rating: [[{score}]]" for score in range(1, 11)),
    "[[A]]": ("[[A]]", "[[B]]", "[[C]]"),
}
"""By a prompt's output format: what the judge could write; the part that all have in common is forced."""

WINNERS: tuple[Winner, ...] = ("A", "B", "tie")


class LogitJudge:
    """Judges by next-token probabilities; see `eval.judges.base.Judge`.

    Args:
        loaded: any chat model.
        name: of the model; `-logit` is added.
        max_tokens: of a batch of prompts, padding included; changes speed only.
        max_rows: prompts of a batch.
    """

    def __init__(self, loaded: LoadedModel, *, name: str, max_tokens: int = 16_384, max_rows: int = 32) -> None:
        self.name = f"{name.removesuffix('-logit')}-logit"
        self._loaded, self._max_tokens, self._max_rows = loaded, max_tokens, max_rows
        self._max_length = getattr(without_adapters(loaded.model).config, "max_position_embeddings", None)
        loaded.model.eval()

    @property
    def identity(self) -> Mapping[str, object]:
        """Weights and chat template."""
        template = template_hash(self._loaded.tokenizer)
        return {"kind": "logit", "model": self._loaded.fingerprint, "chat_template": template}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies batch by batch, the longest prompts first.

        Raises:
            RecipeError: a prompt asks for verdicts of another form than `[[rating]]` or `[[A]]`.
        """
        for output_format in dict.fromkeys(match.prompt.output_format for match in matches):
            if output_format not in VERDICT_TEXTS:
                raise RecipeError(
                    f"output_format {output_format!r} of the judge prompts",
                    why=f"a logit judge knows {' and '.join(VERDICT_TEXTS)}",
                    fix="choose another set of judge prompts",
                )
            indices = [index for index, match in enumerate(matches) if match.prompt.output_format == output_format]
            for position, reply in self._judge_alike([matches[index] for index in indices], output_format):
                yield indices[position], reply

    def _judge_alike(self, matches: Sequence[Match], output_format: str) -> Iterator[tuple[int, JudgeReply]]:
        forced, choices = self._choices(VERDICT_TEXTS[output_format])
        prompts = [[*render_prompt(self._loaded.tokenizer, match.messages), *forced] for match in matches]
        room = None if self._max_length is None else self._max_length - max(len(choice) for choice in choices) + 1
        fitting = []
        for index, prompt in enumerate(prompts):
            if room is None or len(prompt) <= room:
                fitting.append(index)
            else:
                error = f"the judge's prompt has {len(prompt)} tokens; the model reads {room}"
                yield index, JudgeReply("", model=self.name, error=error)
        lengths = [len(prompts[index]) for index in fitting]
        for rows in batches_by_length(lengths, max_tokens=self._max_tokens, max_rows=self._max_rows):
            batch = [fitting[row] for row in rows]
            log_probs = continuation_log_probs(
                self._loaded.model,
                [prompts[index] for index in batch],
                choices,
                max_tokens=self._max_tokens,
                max_rows=self._max_rows,
            )
            for index, values in zip(batch, log_probs, strict=True):
                text, verdict = (rating if output_format == "[[rating]]" else winner)(values)
                yield (
                    index,
                    JudgeReply(
                        text,
                        finish_reason="stop",
                        verdict=verdict,
                        model=self.name,
                        num_prompt_tokens=len(prompts[index]),
                        num_completion_tokens=0,
                    ),
                )

    def _choices(self, texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """The forced tokens, and each verdict's own; whole texts are tokenized, as a model would have learnt them."""
        tokenize = self._loaded.tokenizer
        return choice_tokens([list(tokenize(text, add_special_tokens=False)["input_ids"]) for text in texts])


def rating(log_probs: Float[Tensor, " choices"]) -> tuple[str, Verdict]:
    """The expected rating over 1 to 10 as a verdict, and the probabilities in words.

    Args:
        log_probs: of the ten ratings, not normalised: the model may have had something else to say.
    """
    probs = torch.softmax(log_probs.double(), dim=-1)
    score = round(float(probs @ torch.arange(1, len(probs) + 1, dtype=torch.float64)), DIGITS)
    score = min(max(score, 1.0), 10.0)
    told = ", ".join(f"P({number}) = {prob:.4f}" for number, prob in enumerate(probs.tolist(), start=1))
    text = f"expected rating {score:.4f}; {told}; {_mass(log_probs)}"
    return text, Verdict("ok", "expected_rating", None, score=score)


def winner(log_probs: Float[Tensor, " choices"]) -> tuple[str, Verdict]:
    """The likeliest of A, B and tie as a verdict, and the probabilities in words; equal ones are a tie.

    Args:
        log_probs: of A, B and C, not normalised.
    """
    probs = torch.softmax(log_probs.double(), dim=-1).tolist()
    best = [number for number, prob in enumerate(probs) if prob == max(probs)]
    chosen = WINNERS[best[0]] if len(best) == 1 else "tie"
    told = ", ".join(f"P({name}) = {prob:.4f}" for name, prob in zip(WINNERS, probs, strict=True))
    return f"{told}; {_mass(log_probs)}", Verdict("ok", "likeliest_label", None, winner=chosen)


def _mass(log_probs: Float[Tensor, " choices"]) -> str:
    """How likely the model was to give any verdict at all here; near 0, its verdicts mean little."""
    return f"all together {float(log_probs.double().logsumexp(-1).exp()):.4g} of what the model might have written"
