"""Requests to an OpenAI-compatible server: repeated where that helps, told as what, why and fix where it does not."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from distill.errors import EndpointError
from distill.settings import Settings

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

log = logging.getLogger(__name__)

COMPLETIONS, CHAT, MODELS = "/completions", "/chat/completions", "/models"
NO_KEY = "none"
_SHOWN_CHARACTERS = 300
_REFUSED_KEY = (401, 403)
_PASSING_STATUS = (408, 409, 429)
_OWN_FAULT_STATUS = (400, 413, 422)
_FIXES: dict[int, str] = {
    404: "check {section}.base_url (as a rule it ends in /v1) and {section}.model",
    429: "lower {section}.max_concurrent; the same command goes on from here",
}

Fault = Literal["passing", "of the request", "lasting"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ServerSettings(Settings):
    """One model of one OpenAI-compatible server, and how patient to be with it."""

    base_url: str = Field(
        pattern=r"^https?://[^\s/@]+(/\S*)?$",
        description="address of the API, such as http://host:8000/v1; it is written beside results, so no key is in it",
    )
    model: str = Field(min_length=1, description="the name under which the server knows the model")
    api_key_env: str | None = Field(None, description="environment variable that holds the key; none: a server without")
    timeout_s: float = Field(600.0, gt=0, description="seconds to wait for one answer")
    max_concurrent: int = Field(16, gt=0, description="requests under way at once")
    max_retries: int = Field(8, ge=0, description="how often a request is repeated after 429, 5xx or a timeout")


class EndpointSettings(ServerSettings):
    """A teacher behind an OpenAI-compatible server, such as vLLM's."""

    answers: Literal["completions", "chat"] = Field(
        "completions",
        description="completions: the prompt as token ids of our chat template; chat: messages, the server's template",
    )
    logprobs: Literal["echo", "prompt_logprobs"] = Field(
        "echo", description="how scores are asked for: the completions API's echo, or vLLM's own prompt_logprobs"
    )


class EndpointClient:
    """Asks one model of one server; safe to use from several threads.

    The `openai` library repeats a request after 408, 429, 5xx, a refused connection or a timeout, with growing
    pauses or after the time that the server names.

    Args:
        settings: where the server is, and how patient to be.
        section: what the settings are called in messages.

    Raises:
        EndpointError: `api_key_env` names a variable that is not set, or `openai` is not installed.
    """

    def __init__(self, settings: ServerSettings, *, section: str = "teacher.endpoint") -> None:
        self.settings, self._section = settings, section
        self._client = _openai_client(settings, section=section)
        self.unknown_fields: frozenset[str] = frozenset()

    def served_model(self) -> str:
        """The weights behind the model's name where the server tells (vLLM's `root`), else the name.

        Raises:
            EndpointError: the server does not answer, or does not serve the model.
        """
        name = self.settings.model
        rows = self._parsed(self._asked(lambda: self._client.get(MODELS, cast_to=str), MODELS), MODELS).get("data")
        known = {str(row.get("id")): row for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}
        if name not in known:
            raise EndpointError(
                f"the server at {self.settings.base_url} does not serve {name}",
                why=f"it serves: {', '.join(sorted(known)) or 'nothing'}",
                fix=f"set {self._section}.model to a name that it serves",
            )
        root = known[name].get("root")
        return root if isinstance(root, str) and root else name

    def post(self, path: str, body: Mapping[str, object], *, neutral: Mapping[str, object]) -> dict[str, Any]:
        """The reply to `body`, with the model's name in it.

        Args:
            path: below the base address.
            body: fields without which the answer would be another one.
            neutral: fields that say what a server which lacks them does anyway: one that refuses such a field by
                its name is asked without it from then on.

        Raises:
            EndpointError: the server does not answer, refuses, or replies with something that is no JSON object.
        """
        while True:
            kept = {name: value for name, value in neutral.items() if name not in self.unknown_fields}
            request = {"model": self.settings.model, **body, **kept}
            try:
                text = self._asked(partial(self._client.post, path, cast_to=str, body=request), path)
            except EndpointError as error:
                refused = {name for name in kept if name in error.why} if _is_refusal(error) else set()
                if not refused:
                    raise
                log.warning("%s refuses %s: asked without", self.settings.base_url, ", ".join(sorted(refused)))
                self.unknown_fields |= refused
                continue
            return self._parsed(text, path)

    def in_order(self, ask: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """`ask` of every item, `max_concurrent` at a time: answers in the order of the items, or the first error."""
        with ThreadPoolExecutor(self.settings.max_concurrent, thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(ask, item) for item in items]
            try:
                return [future.result() for future in futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def unusable(self, path: str, problem: str, *, fix: str = "") -> EndpointError:
        """The error for a reply that is not what the API promises."""
        return EndpointError(
            f"the server at {self.settings.base_url} gave a reply to {path} that cannot be used",
            why=problem,
            fix=fix or "check that the server speaks the OpenAI API, and look at its log",
        )

    def _parsed(self, text: str, path: str) -> dict[str, Any]:
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.unusable(path, f"it is not JSON: {text[:_SHOWN_CHARACTERS]!r}") from error
        if not isinstance(reply, dict):
            raise self.unusable(path, f"it is no JSON object: {text[:_SHOWN_CHARACTERS]!r}")
        return _without_halves(reply) if "\\ud" in text.lower() else reply

    def _asked(self, ask: Callable[[], str], path: str) -> str:
        """What the server says.

        Raises:
            EndpointError: after the last repetition; says what the server said.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        settings = self.settings
        try:
            return ask()
        except APITimeoutError as error:
            raise EndpointError(
                f"the server at {settings.base_url} did not answer {path} within {settings.timeout_s:g} s",
                why=f"it was asked {settings.max_retries + 1} times",
                fix=f"raise {self._section}.timeout_s, or lower {self._section}.max_concurrent",
            ) from error
        except APIConnectionError as error:
            raise EndpointError(
                f"the server at {settings.base_url} cannot be reached",
                why=str(error.__cause__ or error),
                fix=f"start it, or check {self._section}.base_url",
            ) from error
        except APIStatusError as error:
            raise EndpointError(
                f"the server at {settings.base_url} answered {path} with status {error.status_code}",
                why=_said(error),
                fix=self._fix(error.status_code),
            ) from error

    def _fix(self, status_code: int) -> str:
        if status_code not in _REFUSED_KEY:
            fix = _FIXES.get(status_code, "look at the server's log; the same command goes on from here")
            return fix.format(section=self._section)
        name = self.settings.api_key_env
        if name is None:
            return f"name the environment variable that holds the key: {self._section}.api_key_env=NAME"
        return f"put a key that the server takes into {name}: export {name}=KEY"


def fault_of(error: EndpointError) -> Fault:
    """Whose fault an error of `EndpointClient` is.

    `passing`: overload, a broken connection, or a reply that cannot be used, after all repetitions; the next request
    may fare better. `of the request`: this one is malformed or too long. `lasting`: the key, the address or the
    model's name is wrong, and every request will meet the same.
    """
    from openai import APIStatusError

    cause = error.__cause__
    if not isinstance(cause, APIStatusError) or cause.status_code in _PASSING_STATUS or cause.status_code >= 500:
        return "passing"
    return "of the request" if cause.status_code in _OWN_FAULT_STATUS else "lasting"


def _is_refusal(error: EndpointError) -> bool:
    """Whether the server understood the request and found fault with it."""
    from openai import BadRequestError, UnprocessableEntityError

    return isinstance(error.__cause__, BadRequestError | UnprocessableEntityError)


def _without_halves(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply with `?` for each half of a character, which a server that cuts text by bytes lets through."""
    whole: dict[str, Any] = json.loads(json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace"))
    return whole


def _said(error: "APIStatusError") -> str:
    """The server's own words, cut."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or body or error.message)[:_SHOWN_CHARACTERS]


def _openai_client(settings: ServerSettings, *, section: str) -> "OpenAI":
    try:
        from openai import OpenAI
    except ImportError as error:
        raise EndpointError("openai is not installed", why=str(error), fix="pip install openai") from error
    key = NO_KEY
    if settings.api_key_env is not None:
        key = os.environ.get(settings.api_key_env, "")
        if not key:
            raise EndpointError(
                f"{section}.api_key_env is {settings.api_key_env}, which is not set",
                why="the server's key is read from this environment variable",
                fix=f"export {settings.api_key_env}=KEY",
            )
    return OpenAI(base_url=settings.base_url, api_key=key, timeout=settings.timeout_s, max_retries=settings.max_retries)
