"""An artefact in its real runtime: the same token ids, the same greedy answers, their end, and no special token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from distill.data import Conversation, Message
from distill.decoding import Generation, Generator, LlamaCppGenerator, SamplingSettings, TransformersGenerator
from distill.errors import ExportError, ModelError
from distill.models import LoadedModel, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Runtime = Literal["transformers", "llama.cpp"]

# Two turns after a system message, with what tokenizers disagree about: contractions, digits, accents, white space.
TRICKY_CHAT = (
    Message("system", "You are a helpful assistant."),
    Message("user", "Hi! It's 12:30 and that's $4.50 - naïve café?\n\n  Two  spaces,\ta tab; 日本語 🙂"),
    Message("assistant", "I'LL be BACK at 2026-01-31."),
    Message("user", " ok "),
)
DEFAULT_QUESTIONS = (
    "Hello!",
    "How are you?",
    "What is your name?",
    "Tell me a joke.",
    "What is 12 times 3?",
    "Name three colours.",
    "Where is Paris?",
    "Can you help me?",
    "Say something nice.",
    "Goodbye!",
)


@dataclass(frozen=True)
class Expected:
    """What the merged model says and how its tokenizer cuts text, which every artefact is held against."""

    prompts: list[tuple[Message, ...]]
    answers: list[Generation]
    chats: list[tuple[Message, ...]]
    texts: list[str]
    token_ids: list[list[int]]
    special_tokens: tuple[str, ...]
    sampling: SamplingSettings


class LoadedArtefact(Generator, Protocol):
    """An artefact in its runtime: it answers chats, and shows how it renders and cuts them."""

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as text, ending where the assistant is to write."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of rendered text, special tokens recognised."""


@dataclass(frozen=True)
class SmokeReport:
    """Counts over the prompts; `num_same_token_ids` counts rendered chats, one more than the prompts."""

    runtime: Runtime
    num_prompts: int
    num_same_token_ids: int
    num_same_text: int
    num_stopped: int
    num_merged_stopped: int


def expected_answers(
    merged: LoadedModel, conversations: Sequence[Conversation], *, num_prompts: int, max_new_tokens: int
) -> Expected:
    """The merged model's greedy answers to the last question of each chat, or to common questions without chats."""
    chats = [prompt for chat in conversations if (prompt := _up_to_last_question(chat))]
    prompts = (chats or [(Message("user", question),) for question in DEFAULT_QUESTIONS])[:num_prompts]
    sampling = SamplingSettings(temperature=0.0, max_new_tokens=max_new_tokens)
    tokenizer = merged.tokenizer
    chats = [TRICKY_CHAT, *prompts]
    texts = [_rendered(tokenizer, messages) for messages in chats]
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return Expected(
        prompts=prompts,
        answers=TransformersGenerator(merged).generate(prompts, sampling, seed=0),
        chats=chats,
        texts=texts,
        token_ids=[_token_ids(tokenizer, text) for text in texts],
        special_tokens=tuple(sorted(special | set(tokenizer.all_special_tokens))),
        sampling=sampling,
    )


def smoke_test(path: Path, expected: Expected, *, runtime: Runtime, min_same_text: float) -> SmokeReport:
    """Loads the artefact at `path` in its runtime and lets it answer.

    Args:
        path: a model folder, or a .gguf file for llama.cpp.
        min_same_text: share of prompts whose greedy text must equal the merged model's.

    Raises:
        ExportError: it does not load, renders chats as other text, cuts text into other tokens, prints special
            tokens, does not stop where the merged model does, or too few of its answers are the merged model's.
    """
    try:
        if runtime == "transformers":
            return _compare(_TransformersArtefact(path), expected, runtime=runtime, min_same_text=min_same_text)
        room = max(len(ids) for ids in expected.token_ids) + expected.sampling.max_new_tokens + 1
        with LlamaCppGenerator(path, max_length_tokens=room) as artefact:
            return _compare(artefact, expected, runtime=runtime, min_same_text=min_same_text)
    except ModelError as error:
        raise ExportError(f"the artefact does not work in {runtime}: {error.what}", why=error.why) from error


class _TransformersArtefact:
    def __init__(self, folder: Path) -> None:
        loaded = load_model(folder)
        self._tokenizer = loaded.tokenizer
        self._generator = TransformersGenerator(loaded)

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        return self._generator.generate(prompts, settings, seed=seed)

    def render(self, messages: Sequence[Message]) -> str:
        return _rendered(self._tokenizer, messages)

    def tokenize(self, text: str) -> list[int]:
        return _token_ids(self._tokenizer, text)


def _compare(artefact: LoadedArtefact, expected: Expected, *, runtime: Runtime, min_same_text: float) -> SmokeReport:
    _require_same_input(artefact, expected, runtime=runtime)
    answers = artefact.generate(expected.prompts, expected.sampling, seed=0)
    _refuse_special_tokens(answers, expected.special_tokens, runtime=runtime)
    pairs = list(zip(expected.answers, answers, strict=True))
    num_same = sum(answer.text == merged.text for merged, answer in pairs)
    if num_same < min_same_text * len(pairs):
        first = next((merged.text, answer.text) for merged, answer in pairs if answer.text != merged.text)
        raise ExportError(
            f"{runtime} gives the merged model's greedy answer to {num_same} of {len(pairs)} prompts",
            why=f"at least {min_same_text:.0%} were expected; for example {first[0]!r:.80} became {first[1]!r:.80}",
            fix="choose a format with more bits; if float16 fails too, the conversion is wrong",
        )
    if any(m.text == a.text and m.finish_reason == "stop" and a.finish_reason != "stop" for m, a in pairs):
        raise ExportError(f"{runtime} does not stop where the merged model does", why="its end tokens are not known")
    return SmokeReport(
        runtime=runtime,
        num_prompts=len(pairs),
        num_same_token_ids=len(expected.texts),
        num_same_text=num_same,
        num_stopped=sum(answer.finish_reason == "stop" for answer in answers),
        num_merged_stopped=sum(answer.finish_reason == "stop" for answer in expected.answers),
    )


def _require_same_input(artefact: LoadedArtefact, expected: Expected, *, runtime: Runtime) -> None:
    for messages, text in zip(expected.chats, expected.texts, strict=True):
        rendered = artefact.render(messages)
        if rendered != text:
            raise ExportError(
                f"{runtime} renders a chat as {rendered!r:.120}",
                why=f"the model learnt it as {text!r:.120}",
                fix="use a chat template that both Jinja engines read alike",
            )
    same_ids = [artefact.tokenize(text) == ids for text, ids in zip(expected.texts, expected.token_ids, strict=True)]
    if not all(same_ids):
        raise ExportError(
            f"{runtime} cuts {same_ids.count(False)} of {len(same_ids)} rendered chats into other tokens",
            why=f"the model would read what it never saw; the first is {expected.texts[same_ids.index(False)]!r:.120}",
            fix="check the tokenizer's pre-tokenizer and special tokens",
        )


def _refuse_special_tokens(answers: Sequence[Generation], special_tokens: Sequence[str], *, runtime: Runtime) -> None:
    for answer in answers:
        leaked = next((token for token in special_tokens if token in answer.text), None)
        if leaked is not None:
            raise ExportError(
                f"{runtime} prints the special token {leaked}",
                why=f"users would see it, as in {answer.text!r:.80}",
                fix="mark it special in the tokenizer",
            )


def _up_to_last_question(conversation: Conversation) -> tuple[Message, ...]:
    messages = conversation.messages
    last = max((number for number, message in enumerate(messages) if message.role == "user"), default=-1)
    return messages[: last + 1]


def _rendered(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> str:
    rows = [message.to_json() for message in messages]
    return str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True))


def _token_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
