"""An OpenAI-compatible server around a tiny model, in a thread, that can be told to misbehave.

It speaks as vLLM does: prompts as token ids, echo with log-probs (the k likeliest, and the token itself where it is
not among them), prompt_logprobs, return_tokens_as_token_ids, return_token_ids, stop_token_ids.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from distill.data import Message
from distill.data.templates import render_prompt
from distill.models import LoadedModel

NAME = "tiny"
RETRY_AT_ONCE = {"retry-after-ms": "1"}


def status(code: int, message: str = "later", headers: dict[str, str] = RETRY_AT_ONCE) -> Response:
    """An error as the API writes it."""
    return JSONResponse({"error": {"message": message, "type": "x", "code": code}}, code, headers)


def unchanged(reply: dict[str, Any]) -> dict[str, Any]:
    """What an honest server does to its replies."""
    return reply


@dataclass
class EndpointServer:
    """What the server is asked, and how it answers.

    Attributes:
        loaded: the model it serves.
        requests: bodies of the requests, in the order they came.
        faults: replies given in place of the next answers, first to last.
        model_faults: the same, for the list of models.
        refused_fields: fields that are answered with status 400.
        names_ids: whether it knows return_tokens_as_token_ids and return_token_ids.
        changed: what is made of each reply.
        delay_s: time that each answer waits, in seconds.
        keys: bearer tokens that came.
    """

    loaded: LoadedModel
    requests: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Response] = field(default_factory=list)
    model_faults: list[Response] = field(default_factory=list)
    refused_fields: tuple[str, ...] = ()
    names_ids: bool = True
    changed: Callable[[dict[str, Any]], dict[str, Any]] = unchanged
    delay_s: float = 0.0
    keys: list[str] = field(default_factory=list)
    url: str = ""

    def app(self) -> FastAPI:
        """The three routes."""
        app = FastAPI()
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/completions", self.completions, methods=["POST"])
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])
        return app

    def models(self) -> Response:
        if self.model_faults:
            return self.model_faults.pop(0)
        return JSONResponse(self.changed({"data": [{"id": NAME, "root": "owner/tiny-model"}]}))

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        return self._fault(body) or self._reply(self._completion(body))

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        fault = self._fault(body)
        if fault is not None:
            return fault
        messages = [Message(row["role"], row["content"]) for row in body["messages"]]
        prompt = render_prompt(self.loaded.tokenizer, messages)
        ids, reason = self._generated(prompt, body)
        message = {"role": "assistant", "content": self._text(ids)}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return self._reply({"choices": [choice], "usage": {"completion_tokens": len(ids)}})

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(await request.body())
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        return body

    def _fault(self, body: dict[str, Any]) -> Response | None:
        time.sleep(self.delay_s)
        if self.faults:
            return self.faults.pop(0)
        refused = [name for name in self.refused_fields if name in body]
        return status(400, f"Unrecognized request argument supplied: {refused[0]}") if refused else None

    def _reply(self, reply: dict[str, Any]) -> Response:
        return JSONResponse(self.changed(reply))

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        ids, reason = self._generated(prompt, body)
        choice: dict[str, Any] = {"index": 0, "text": self._text(ids), "finish_reason": reason}
        if body.get("prompt_logprobs"):
            choice["prompt_logprobs"] = self._prompt_log_probs(prompt, body["prompt_logprobs"])
        if body.get("echo") and body.get("logprobs"):
            choice["logprobs"] = self._echo([*prompt, *ids], body)
        if body.get("return_token_ids") and self.names_ids:
            choice["prompt_token_ids"] = prompt
        return {"choices": [choice], "usage": {"completion_tokens": len(ids)}}

    def _echo(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        by_id = bool(body.get("return_tokens_as_token_ids")) and self.names_ids

        def name(token: int) -> str:
            return f"token_id:{token}" if by_id else str(self.loaded.tokenizer.decode([token]))

        rows = self._prompt_log_probs(ids, body["logprobs"])
        own: list[float | None] = [None]
        listed: list[dict[str, float] | None] = [None]
        for token, row in zip(ids[1:], rows[1:], strict=True):
            assert row is not None
            own.append(row[str(token)]["logprob"])
            listed.append({name(int(key)): entry["logprob"] for key, entry in row.items()})
        return {"tokens": [name(token) for token in ids], "token_logprobs": own, "top_logprobs": listed}

    def _prompt_log_probs(self, ids: list[int], k: int) -> list[dict[str, dict[str, float]] | None]:
        log_probs = self.log_probs(ids)
        rows: list[dict[str, dict[str, float]] | None] = [None]
        for token, row in zip(ids[1:], log_probs, strict=False):
            tokens = dict.fromkeys([token, *row.topk(k).indices.tolist()])
            rows.append({str(key): {"logprob": float(row[key])} for key in tokens})
        return rows

    @torch.inference_mode()
    def log_probs(self, ids: list[int]) -> torch.Tensor:
        """The model's distribution after each token."""
        return self.loaded.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def _generated(self, prompt: list[int], body: dict[str, Any]) -> tuple[list[int], str]:
        """Greedy, or drawn with the request's seed."""
        generator = torch.Generator().manual_seed(body.get("seed") or 0)
        ends = {self.loaded.tokenizer.eos_token_id, *body.get("stop_token_ids", [])}
        ids: list[int] = []
        for _ in range(body["max_tokens"]):
            row = self.log_probs([*prompt, *ids])[-1]
            if body.get("temperature", 1.0) == 0:
                ids.append(int(row.argmax()))
            else:
                probs = (row / body.get("temperature", 1.0)).softmax(-1)
                ids.append(int(torch.multinomial(probs, 1, generator=generator)))
            if ids[-1] in ends:
                return ids, "stop"
        return ids, "length"

    def _text(self, ids: list[int]) -> str:
        return str(self.loaded.tokenizer.decode(ids, skip_special_tokens=True))


@contextmanager
def serving(loaded: LoadedModel) -> Iterator[EndpointServer]:
    """The server on a free port of the loopback, as long as the block runs."""
    server = EndpointServer(loaded)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        running = uvicorn.Server(uvicorn.Config(server.app(), log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()
