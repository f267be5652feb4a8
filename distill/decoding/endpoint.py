"""Answers from a teacher behind an OpenAI-compatible server."""

import hashlib
from collections.abc import Sequence
from typing import Any

from distill.data.records import Message
from distill.data.templates import end_of_turn_id, render_prompt
from distill.decoding.endpoint_client import CHAT, COMPLETIONS, EndpointClient, EndpointSettings
from distill.decoding.generate import Generation
from distill.decoding.sampling import SamplingSettings
from distill.models.tokenizer import Tokenizer

_ALL_TOKENS = -1
_SEED_BITS = 31


class EndpointGenerator:
    """Answers chats with the model of a server.

    Every field of the sampling is spelled out, because a server may have defaults of its own (vLLM takes them from
    the model's generation_config.json). A prompt is asked with a seed made from the settings' seed, the prompt and
    how often it came before, so that it does not depend on what else is asked; how far the same seed gives the same
    answer is the server's doing. `batch_size` is not used: `max_concurrent` says how many prompts are under way.

    Args:
        settings: where the server is.
        tokenizer: the teacher's; with `answers: completions` its chat template makes the prompt.

    Raises:
        EndpointError: the key's environment variable is not set.
        ModelError: the chat template ends an answer with no special token.
    """

    def __init__(self, settings: EndpointSettings, tokenizer: Tokenizer) -> None:
        self._client, self._answers = EndpointClient(settings), settings.answers
        self._tokenizer = tokenizer
        ends = {end_of_turn_id(tokenizer), tokenizer.eos_token_id} - {None}
        self._end_ids = sorted(int(token) for token in ends)
        self._end_text = str(tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)))

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts.

        Raises:
            EndpointError: the server does not answer, refuses, or gives a reply without an answer.
        """
        seeds = prompt_seeds(prompts, seed=seed)
        requests = list(zip(prompts, seeds, strict=True))
        return self._client.in_order(lambda request: self._answer(request[0], settings, seed=request[1]), requests)

    def _answer(self, prompt: Sequence[Message], settings: SamplingSettings, *, seed: int) -> Generation:
        body: dict[str, object] = {
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": seed,
        }
        neutral: dict[str, object] = {"repetition_penalty": 1.0, "min_p": 0.0}
        if settings.top_k == 0:
            neutral["top_k"] = _ALL_TOKENS
        else:
            body["top_k"] = settings.top_k
        if self._answers == "chat":
            body["messages"] = [message.to_json() for message in prompt]
            reply = self._client.post(CHAT, body, neutral=neutral)
            choice = self._choice(reply, CHAT)
            message = choice.get("message")
            text = message.get("content") if isinstance(message, dict) else None
            return self._generation(text if isinstance(text, str) else "", choice, reply)
        body["prompt"] = render_prompt(self._tokenizer, prompt)
        reply = self._client.post(COMPLETIONS, body, neutral={**neutral, "stop_token_ids": self._end_ids})
        choice = self._choice(reply, COMPLETIONS)
        if not isinstance(choice.get("text"), str):
            raise self._client.unusable(COMPLETIONS, "its choice has no text")
        return self._generation(choice["text"], choice, reply)

    def _choice(self, reply: dict[str, Any], path: str) -> dict[str, Any]:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._client.unusable(path, "it has no choices")
        return choices[0]

    def _generation(self, text: str, choice: dict[str, Any], reply: dict[str, Any]) -> Generation:
        """An answer; one that the server ended for a reason of its own (a filter, an abort) counts as unfinished."""
        text, end, _ = text.partition(self._end_text)
        is_stopped = bool(end) or choice.get("finish_reason") == "stop"
        usage = reply.get("usage")
        num_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if not isinstance(num_tokens, int):
            num_tokens = len(self._tokenizer.encode(text, add_special_tokens=False)) + is_stopped
        return Generation(text, num_tokens, "stop" if is_stopped else "length")


def prompt_seeds(prompts: Sequence[Sequence[Message]], *, seed: int) -> list[int]:
    """A seed of each prompt, from `seed`, the prompt and how often it came before; small enough for any server."""
    seen: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        key = repr([(message.role, message.content) for message in prompt])
        count = seen[key] = seen.get(key, -1) + 1
        digest = hashlib.sha256(repr((seed, count, key)).encode()).digest()
        seeds.append(int.from_bytes(digest[:4], "little") >> (32 - _SEED_BITS))
    return seeds
