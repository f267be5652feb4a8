"""Runs a GGUF file in llama.cpp, the runtime that people deploy it in."""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from distill.data.records import Message
from distill.decoding.generate import Generation
from distill.decoding.sampling import SamplingSettings
from distill.errors import ModelError

_REQUEST_TIMEOUT_S = 600.0
_QUIET = -1
_SEPARATOR = -1  # no token's id


class LlamaCppGenerator:
    """Answers chats with llama.cpp, through the chat template inside the file; a context manager.

    It runs on the CPU with a float32 key-value cache, so that its logits can be compared with those of transformers,
    and listens on a free port of this machine's loopback while it is open.

    Args:
        path: the .gguf file.
        num_threads: compute threads.
        max_length_tokens: room for a prompt and its answer.

    Raises:
        ModelError: xllamacpp is not installed, or llama.cpp cannot load the file.
    """

    def __init__(self, path: Path, *, num_threads: int = 2, max_length_tokens: int = 1024) -> None:
        self._path = path
        self._server: Any = _start(path, num_threads=num_threads, max_length_tokens=max_length_tokens)
        self._address: str = self._server.listening_address
        # Stopping a server whose loop has not run yet never returns; one computed token proves that it runs.
        self._post("/completion", {"prompt": [0], "n_predict": 1, "cache_prompt": False})

    @property
    def base_url(self) -> str:
        """Where it speaks the OpenAI API while it is open."""
        return f"{self._address}/v1"

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        """One answer to each prompt, in the order of the prompts; draws belong to llama.cpp's own generator."""
        return [self._answer(prompt, settings, seed=_seed_of(seed, index)) for index, prompt in enumerate(prompts)]

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        """llama.cpp's ids of `text`, without any token it would put in front."""
        reply = self._post("/tokenize", {"content": text, "add_special": False, "parse_special": parse_special})
        return [int(token) for token in reply["tokens"]]

    def tokenize_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text as `tokenize` gives them, in one request: llama.cpp passes separators through."""
        content = [part for text in texts for part in (text, _SEPARATOR)]
        reply = self._post("/tokenize", {"content": content, "add_special": False, "parse_special": True})
        rows: list[list[int]] = [[]]
        for token in reply["tokens"]:
            if token == _SEPARATOR:
                rows.append([])
            else:
                rows[-1].append(int(token))
        return rows[:-1]

    def ids_around_text(self) -> list[int]:
        """What llama.cpp puts before and after every text because the file says so."""
        return [int(token) for token in self._post("/tokenize", {"content": "", "add_special": True})["tokens"]]

    def stops_at(self, token_id: int) -> bool:
        """Whether an answer ends with this token; a bias makes llama.cpp draw it."""
        request = {"prompt": [0], "n_predict": 2, "logit_bias": [[token_id, 1e4]], "cache_prompt": False}
        return bool(self._post("/completion", request)["stop_type"] == "eos")

    def next_log_probs(self, prefix: Sequence[int], *, vocab_size: int) -> list[float]:
        """Natural logarithms of the probabilities of all `vocab_size` tokens after `prefix`, in id order.

        They are the model's own, before any sampler. llama.cpp reports them with the token it draws, and leaves
        them out after an end token or half a character; a bias makes it draw the letter a, and changes no report.

        Raises:
            ModelError: llama.cpp reports another number of tokens.
        """
        request = {
            "prompt": list(prefix),
            "n_predict": 1,
            "n_probs": vocab_size + 1,
            "logit_bias": [[self.tokenize("a")[0], 1e4]],
            "cache_prompt": False,
        }
        reply = self._post("/completion", request)
        rows = [row["top_logprobs"] for row in reply.get("completion_probabilities") or ()]
        by_id = {int(entry["id"]): float(entry["logprob"]) for entry in rows[0]} if rows else {}
        if sorted(by_id) != list(range(vocab_size)):
            raise ModelError(
                f"llama.cpp gives the probabilities of {len(by_id)} tokens of {self._path}",
                why=f"the model has {vocab_size}",
                fix="write the file again (distill export)",
            )
        return [by_id[index] for index in range(vocab_size)]

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the chat template in the file makes of `messages`, ending where the assistant is to write."""
        reply = self._post("/apply-template", {"messages": [message.to_json() for message in messages]})
        return str(reply["prompt"])

    def speed(self, prompt_ids: Sequence[int], *, num_new_tokens: int) -> tuple[float, float]:
        """Tokens per second by llama.cpp's own clock: reading `prompt_ids`, and writing greedily past any end."""
        request = {"n_predict": num_new_tokens, "temperature": 0.0, "ignore_eos": True, "cache_prompt": False}
        timings = self._post("/completion", {"prompt": list(prompt_ids), **request})["timings"]
        return float(timings["prompt_per_second"]), float(timings["predicted_per_second"])

    def close(self) -> None:
        """Stops llama.cpp and frees its memory; a second call does nothing."""
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, prompt: Sequence[Message], settings: SamplingSettings, *, seed: int) -> Generation:
        request = {
            "messages": [message.to_json() for message in prompt],
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "samplers": ["temperature", "top_k", "top_p"],
            "seed": seed,
            "cache_prompt": False,
        }
        reply = self._post("/v1/chat/completions", request)
        choice = reply["choices"][0]
        reason: Literal["stop", "length"] = "length" if choice["finish_reason"] == "length" else "stop"
        return Generation(choice["message"]["content"] or "", int(reply["usage"]["completion_tokens"]), reason)

    def _post(self, path: str, value: Mapping[str, object]) -> Any:
        if self._server is None:
            raise ModelError(f"{self._path} is closed in llama.cpp", fix="use it inside the with block")
        request = urllib.request.Request(
            self._address + path, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_REQUEST_TIMEOUT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise ModelError(f"llama.cpp refused a request to {path} on {self._path}", why=detail) from error


def _start(path: Path, *, num_threads: int, max_length_tokens: int) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelError("llama.cpp is not installed", why=str(error), fix="pip install xllamacpp") from error
    if not path.is_file():
        raise ModelError(f"{path} does not exist", fix="check the path of the .gguf file")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = max_length_tokens, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = num_threads
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.use_jinja, params.warmup, params.fit_params, params.ui = True, False, False, False
    params.cache_ram_mib, params.verbosity = 0, _QUIET
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"llama.cpp cannot load {path}", why=str(error), fix="write the file again (distill export)"
        ) from error


def _seed_of(seed: int, index: int) -> int:
    """A 32-bit seed of the prompt at `index`, below llama.cpp's word for a random one."""
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:4], "little") >> 1
