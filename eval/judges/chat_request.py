"""What is asked of a judge that speaks the chat API, and what its reply says; the same live and in a batch file."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from distill.decoding.endpoint_client import ServerSettings
from eval.judges.base import JudgeReply
from eval.mt_bench.matches import Match


class ChatJudgeSettings(ServerSettings):
    """A judge behind an OpenAI-compatible server, and how it is sampled and paced."""

    temperature: float = Field(0.0, ge=0, description="0: the likeliest words; left out where the server refuses it")
    max_tokens: int = Field(2048, gt=0, description="cap of a reply; one that is cut off is asked once more with twice")
    seed: int | None = Field(0, description="of the sampling, raised by one with each repeat; null: none is sent")
    merges_system: bool = Field(
        False, description="puts the system message in front of the user's, for templates without"
    )
    requests_per_minute: float | None = Field(None, gt=0, description="null: as many as max_concurrent allows")
    tokens_per_minute: float | None = Field(None, gt=0, description="prompt and cap of completion; null: no limit")
    max_consecutive_failures: int = Field(10, gt=0, description="failed calls in a row after which the run stops")

    @property
    def sampling(self) -> dict[str, object]:
        """What decides the words besides the model."""
        return {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "merges_system": self.merges_system,
        }


def chat_body(settings: ChatJudgeSettings, match: Match) -> dict[str, object]:
    """Messages of a request."""
    messages = [message.to_json() for message in match.messages]
    if settings.merges_system and messages[0]["role"] == "system":
        merged = "\n\n".join(message["content"] for message in messages)
        messages = [{"role": "user", "content": merged}]
    return {"messages": messages}


def sampling_body(settings: ChatJudgeSettings, match: Match) -> dict[str, object]:
    """Fields that shape the reply, which a server may refuse by name and then is asked without."""
    body: dict[str, object] = {"temperature": settings.temperature}
    if settings.seed is not None:
        body["seed"] = settings.seed + match.repeat
    return body


def reply_from(body: Mapping[str, Any]) -> JudgeReply:
    """The reply in a chat completion; with an `error` where the object is none."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return JudgeReply("", error=f"the server's reply holds no choices[0].message: {dict(body)!r:.200}")
    content, reason, usage = message.get("content"), choice.get("finish_reason"), body.get("usage")
    if content is not None and not isinstance(content, str):
        return JudgeReply("", error=f"choices[0].message.content is {content!r:.100}, and text was expected")
    counts = usage if isinstance(usage, Mapping) else {}
    served, system_fingerprint = body.get("model"), body.get("system_fingerprint")
    return JudgeReply(
        text=content or "",
        finish_reason=reason if isinstance(reason, str) else None,
        model=served if isinstance(served, str) else "",
        system_fingerprint=system_fingerprint if isinstance(system_fingerprint, str) else None,
        num_prompt_tokens=_count(counts.get("prompt_tokens")),
        num_completion_tokens=_count(counts.get("completion_tokens")),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
