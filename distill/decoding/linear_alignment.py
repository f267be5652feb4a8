"""Linear Alignment: answers steered by a principle while they are written, without training and without a reward."""

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from distill.data.records import Message
from distill.data.templates import render_prompt
from distill.decoding.batch import RunningBatch
from distill.decoding.generate import Generation
from distill.decoding.principle import contexts
from distill.decoding.sampling import SamplingSettings, next_tokens, prompt_draws
from distill.decoding.steered_logits import amplified_logits, budgeted_logits, nucleus
from distill.errors import RecipeError
from distill.models.adapters import without_adapters
from distill.models.load import LoadedModel
from distill.models.stopping import end_ids
from distill.settings import Settings

_AS_THEY_ARE = SamplingSettings(temperature=1.0)
_LIKELIEST = SamplingSettings(temperature=0.0)
_DEFAULT_RATIO = 2.0


class LinearAlignmentSettings(Settings):
    """What steers, how far, and within which tokens."""

    principle: str | None = Field(
        None, min_length=1, description="text of the system message that steers; none: each dialogue's own one"
    )
    contrast: str | None = Field(
        None,
        min_length=1,
        description="system message of the reading without the principle; none: the dialogue's own one, if it has one"
        " besides the principle",
    )
    ratio: float | None = Field(
        None,
        ge=0,
        description="how many times what the principle changed in the logits is added; 0 is prompting alone; none,"
        " and no norm_budget: 2",
    )
    norm_budget: float | None = Field(
        None, ge=0, description="in place of ratio: size of the step in nats, by its p-norm in the nucleus"
    )
    norm_order: float = Field(2.0, gt=1, description="p of the norm budget")
    top_p: float = Field(0.8, gt=0, le=1, description="tokens are chosen in this nucleus of the unamplified answer")
    nucleus_temperature: float = Field(
        0.5, gt=0, description="of that nucleus where the sampling's temperature is 0; else the sampling's counts"
    )

    @model_validator(mode="after")
    def _one_way_to_go_far(self) -> Self:
        if self.norm_budget is not None and self.ratio is not None:
            raise ValueError(f"ratio is {self.ratio} and norm_budget is {self.norm_budget}: give one of the two")
        if self.norm_budget is None and self.norm_order != 2.0:
            raise ValueError(f"norm_order is {self.norm_order}, but no norm_budget is given")
        return self


def steered_logits(
    principled: Float[Tensor, "batch vocab"],
    plain: Float[Tensor, "batch vocab"],
    *,
    settings: LinearAlignmentSettings,
    temperature: float,
) -> Float[Tensor, "batch vocab"]:
    """Logits of the next token divided by the temperature, -inf outside the nucleus of the unamplified answer.

    Differs from the authors' code: what is left in the nucleus is normalised in log space, so that no row of
    probabilities sums to zero and none has to fall back.

    Args:
        principled: logits with the principle.
        plain: logits without it, after the same tokens.
        settings: how far, and the nucleus.
        temperature: of the sampling; 0 takes the nucleus at `settings.nucleus_temperature`.
    """
    temperature = temperature or settings.nucleus_temperature
    within = nucleus(principled / temperature, top_p=settings.top_p)
    if settings.norm_budget is None:
        ratio = _DEFAULT_RATIO if settings.ratio is None else settings.ratio
        moved = amplified_logits(principled, plain, ratio=ratio)
    else:
        moved = budgeted_logits(
            principled, plain, within=within, budget=settings.norm_budget, order=settings.norm_order
        )
    return torch.where(within, moved / temperature, -torch.inf)


def steered_tokens(
    logits: Float[Tensor, "contexts vocab"],
    draws: Float[Tensor, " batch"],
    *,
    settings: LinearAlignmentSettings,
    temperature: float,
) -> Int[Tensor, " batch"]:
    """The next token of each answer.

    Args:
        logits: of twice as many rows as answers: those with the principle, then those without, in one order.
        draws: one uniform number in [0, 1) an answer; unused at temperature 0.
        settings: how far, and the nucleus.
        temperature: 0 takes the likeliest token of the steered answer.
    """
    principled, plain = logits.chunk(2)
    steered = steered_logits(principled, plain, settings=settings, temperature=temperature)
    return next_tokens(steered, draws, settings=_AS_THEY_ARE if temperature else _LIKELIEST)


class LinearAlignmentGenerator:
    """Answers chats with a model in this process that reads each dialogue with and without a principle.

    Both readings stand in one batch with one key-value cache and receive the same tokens, so that a token costs two
    rows of one forward pass. Draws belong to the dialogue with its principle: at ratio 0 the answers are those of
    `TransformersGenerator` to it, with this nucleus.

    Args:
        loaded: put into evaluation mode; its configuration and chat template say where answers end.
        settings: the principle and how far it steers.
    """

    def __init__(self, loaded: LoadedModel, settings: LinearAlignmentSettings) -> None:
        self._model, self._tokenizer, self._settings = loaded.model.eval(), loaded.tokenizer, settings
        self._end_ids = torch.tensor(end_ids(without_adapters(loaded.model), loaded.tokenizer))

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts.

        Raises:
            RecipeError: the sampling has cuts of its own.
            DataError: there is no principle, and a prompt has no system message.
        """
        told, contrast = self._settings.principle, self._settings.contrast
        pairs = [contexts(prompt, told, contrast=contrast) for prompt in prompts]
        rendered = [[render_prompt(self._tokenizer, context) for context in pair] for pair in pairs]
        answers = self.generate_ids([(first, second) for first, second in rendered], settings, seed=seed)
        return [self._generation(ids) for ids in answers]

    def generate_ids(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], settings: SamplingSettings, *, seed: int
    ) -> list[list[int]]:
        """Token ids of the answers to dialogues tokenized with and without the principle.

        Raises:
            RecipeError: the sampling has cuts of its own.
        """
        require_no_cuts(settings)
        draws = prompt_draws([pair[0] for pair in pairs], num_draws=settings.max_new_tokens, seed=seed)
        by_length = sorted(range(len(pairs)), key=lambda row: -len(pairs[row][0]))
        answers: list[list[int]] = [[] for _ in pairs]
        for start in range(0, len(pairs), settings.batch_size):
            rows = by_length[start : start + settings.batch_size]
            batch = self._answer_batch([pairs[row] for row in rows], draws[rows], settings)
            for row, answer in zip(rows, batch, strict=True):
                answers[row] = answer
        return answers

    @torch.inference_mode()
    def _answer_batch(
        self,
        pairs: list[tuple[Sequence[int], Sequence[int]]],
        draws: Float[Tensor, "batch sequence"],
        settings: SamplingSettings,
    ) -> list[list[int]]:
        batch = RunningBatch.start([pair[0] for pair in pairs] + [pair[1] for pair in pairs], model=self._model)
        draws, ends = draws.to(self._model.device), self._end_ids.to(self._model.device)
        answers: list[list[int]] = [[] for _ in pairs]
        for step in range(settings.max_new_tokens):
            running = batch.rows.chunk(2)[0]
            tokens = steered_tokens(
                batch.logits, draws[running, step], settings=self._settings, temperature=settings.temperature
            )
            for row, token, is_finished in zip(
                running.tolist(), tokens.tolist(), batch.is_finished.tolist(), strict=False
            ):
                if not is_finished:
                    answers[row].append(token)
            both = tokens.repeat(2)
            batch.is_finished |= torch.isin(both, ends)
            if step + 1 == settings.max_new_tokens or bool(batch.is_finished.all()):
                break
            kept = batch.drop_finished()
            batch.advance(both if kept is None else both[kept], model=self._model)
        return answers

    def _generation(self, ids: list[int]) -> Generation:
        is_stopped = bool(ids) and ids[-1] in self._end_ids.tolist()
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return Generation(str(text), len(ids), "stop" if is_stopped else "length")


def require_no_cuts(settings: SamplingSettings) -> None:
    """Refuses a sampling that cuts tokens by itself: two nuclei would leave open which one bounds the steering.

    Raises:
        RecipeError: `top_p` or `top_k` is set.
    """
    for name in ("top_p", "top_k"):
        value, neutral = getattr(settings, name), SamplingSettings.model_fields[name].default
        if value != neutral:
            raise RecipeError(
                f"sampling.{name} is {value} beside linear_alignment",
                why="steered tokens are chosen in the nucleus of linear_alignment.top_p, of the unamplified answer",
                fix=f"leave sampling.{name} out, and set linear_alignment.top_p",
            )
