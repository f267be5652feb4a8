"""Answers from any OpenAI-compatible chat server; unlike a teacher's, its tokenizer need not be known."""

import logging
from collections.abc import Sequence
from typing import Any

from distill.data.records import Message
from distill.decoding.endpoint import prompt_seeds
from distill.decoding.endpoint_client import CHAT, EndpointClient, ServerSettings, fault_of
from distill.decoding.generate import Generation
from distill.decoding.sampling import SamplingSettings
from distill.errors import EndpointError

log = logging.getLogger(__name__)

OLD_CAP, NEW_CAP = "max_tokens", "max_completion_tokens"


class ChatGenerator:
    """Answers chats with the model of a server, through the server's own chat template.

    A prompt is asked with a seed made from the settings' seed, the prompt and how often it came before in one call;
    a server that refuses seeds is asked without. The cap on tokens goes by its newer name where the server wants
    that. `batch_size` is not used: `max_concurrent` says how many prompts are under way.

    Args:
        settings: where the server is.
        section: what the settings are called in messages.

    Raises:
        EndpointError: the key's environment variable is not set.
    """

    def __init__(self, settings: ServerSettings, *, section: str = "endpoint") -> None:
        self._client = EndpointClient(settings, section=section)
        self._cap = OLD_CAP

    def served_model(self) -> str:
        """The weights behind the model's name where the server tells, else the name; see `EndpointClient`."""
        return self._client.served_model()

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts; `num_tokens` is 0 where the server does not tell.

        Raises:
            EndpointError: the server does not answer, refuses, or gives a reply without an answer.
        """
        requests = list(zip(prompts, prompt_seeds(prompts, seed=seed), strict=True))
        return self._client.in_order(lambda request: self._answer(request[0], settings, seed=request[1]), requests)

    def _answer(self, prompt: Sequence[Message], settings: SamplingSettings, *, seed: int) -> Generation:
        body: dict[str, object] = {
            "messages": [message.to_json() for message in prompt],
            "temperature": settings.temperature,
        }
        if settings.top_p < 1:
            body["top_p"] = settings.top_p
        if settings.top_k:
            body["top_k"] = settings.top_k
        return self._generation(self._asked(body, cap=settings.max_new_tokens, seed=seed))

    def _asked(self, body: dict[str, object], *, cap: int, seed: int) -> dict[str, Any]:
        while True:
            name = self._cap
            try:
                return self._client.post(CHAT, {**body, name: cap}, neutral={"seed": seed})
            except EndpointError as error:
                if name == OLD_CAP and fault_of(error) == "of the request" and NEW_CAP in error.why:
                    log.warning("%s wants %s in place of %s", self._client.settings.base_url, NEW_CAP, OLD_CAP)
                    self._cap = NEW_CAP
                    continue
                raise

    def _generation(self, reply: dict[str, Any]) -> Generation:
        choices = reply.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise self._client.unusable(CHAT, "it holds no choices[0].message")
        content, usage = message.get("content"), reply.get("usage")
        if content is not None and not isinstance(content, str):
            raise self._client.unusable(CHAT, f"its content is a {type(content).__name__}, and text was expected")
        num_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return Generation(
            content or "",
            num_tokens if isinstance(num_tokens, int) else 0,
            "stop" if choice.get("finish_reason") == "stop" else "length",
        )
