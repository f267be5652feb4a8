"""Batched generation with a transformers model: left padding, one key-value cache, finished rows leave the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.records import Message
from distill.data.templates import render_prompt
from distill.decoding.batch import RunningBatch
from distill.decoding.sampling import SamplingSettings, next_tokens, prompt_draws
from distill.models.adapters import without_adapters
from distill.models.load import LoadedModel
from distill.models.stopping import end_ids


@dataclass(frozen=True)
class Generation:
    """An answer; `num_tokens` counts the end token, which the text leaves out."""

    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"]


class Generator(Protocol):
    """Anything that answers chats."""

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts."""


class TransformersGenerator:
    """Answers chats with a model in this process.

    A prompt's answer depends on the prompt, the settings and the seed, not on what else is asked or in which order
    (but for ties that rounding decides). A prompt that is asked twice gets two draws.

    Args:
        loaded: put into evaluation mode; its configuration and chat template say where answers end.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._model, self._tokenizer = loaded.model.eval(), loaded.tokenizer
        self._end_ids = torch.tensor(end_ids(without_adapters(loaded.model), loaded.tokenizer))

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts."""
        rendered = [render_prompt(self._tokenizer, prompt) for prompt in prompts]
        return [self._generation(ids) for ids in self.generate_ids(rendered, settings, seed=seed)]

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], settings: SamplingSettings, *, seed: int
    ) -> list[list[int]]:
        """Token ids of the answers to tokenized prompts, the end token included where one was reached."""
        draws = prompt_draws(prompts, num_draws=settings.max_new_tokens, seed=seed)
        return self.answer_ids(prompts, settings, draws=draws)

    def answer_ids(
        self,
        prompts: Sequence[Sequence[int]],
        settings: SamplingSettings,
        *,
        draws: Float[Tensor, "batch sequence"],
        num_token_ids: int | None = None,
    ) -> list[list[int]]:
        """The same with given draws.

        Args:
            prompts: tokenized.
            settings: temperature, cuts, and the longest answer.
            draws: from `prompt_draws`, a row for each prompt.
            num_token_ids: ids from this one on, a head's padding, are never drawn; None: all may be.
        """
        was_training = self._model.training
        self._model.eval()
        by_length = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        answers: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(by_length), settings.batch_size):
            rows = by_length[start : start + settings.batch_size]
            batch = self._answer_batch([prompts[row] for row in rows], draws[rows], settings, num_token_ids)
            for row, answer in zip(rows, batch, strict=True):
                answers[row] = answer
        self._model.train(was_training)
        return answers

    @torch.inference_mode()
    def _answer_batch(
        self,
        prompts: list[Sequence[int]],
        draws: Float[Tensor, "batch sequence"],
        settings: SamplingSettings,
        num_token_ids: int | None,
    ) -> list[list[int]]:
        batch = RunningBatch.start(prompts, model=self._model)
        draws, ends = draws.to(self._model.device), self._end_ids.to(self._model.device)
        answers: list[list[int]] = [[] for _ in prompts]
        for step in range(settings.max_new_tokens):
            tokens = next_tokens(batch.logits[:, :num_token_ids], draws[batch.rows, step], settings=settings)
            _append(answers, batch, tokens)
            batch.is_finished |= torch.isin(tokens, ends)
            if step + 1 == settings.max_new_tokens or bool(batch.is_finished.all()):
                break
            kept = batch.drop_finished()
            batch.advance(tokens if kept is None else tokens[kept], model=self._model)
        return answers

    def _generation(self, ids: list[int]) -> Generation:
        is_stopped = bool(ids) and ids[-1] in self._end_ids.tolist()
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return Generation(str(text), len(ids), "stop" if is_stopped else "length")


def _append(answers: list[list[int]], batch: RunningBatch, tokens: Int[Tensor, " batch"]) -> None:
    """Adds each running row's token to its answer."""
    for row, token, is_finished in zip(batch.rows.tolist(), tokens.tolist(), batch.is_finished.tolist(), strict=True):
        if not is_finished:
            answers[row].append(token)
