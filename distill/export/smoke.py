"""An artefact in its real runtime: the same token ids, the same greedy answers, their end, and no special token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from distill.data import Conversation, Message
from distill.decoding import Generation, Generator, LlamaCppGenerator, SamplingSettings, TransformersGenerator
from distill.errors import ExportError, ModelError
from distill.export.greedy_divergence import first_difference, median_position
from distill.export.next_token import next_log_probs, next_token_kl, probe_prefixes
from distill.export.sample_answers import SampleAnswer, mean_length, sample_answers
from distill.export.token_parity import (
    Corpus,
    Reader,
    corpus_of,
    require_nothing_around_chats,
    require_same_chats,
    require_same_corpus,
    token_ids_of,
)
from distill.models import LoadedModel, end_ids, load_model, without_adapters

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
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
    corpus: Corpus
    end_ids: tuple[int, ...]
    special_tokens: tuple[str, ...]
    sampling: SamplingSettings
    prefixes: list[list[int]]
    next_log_probs: list["Float[Tensor, ' vocab']"]


class LoadedArtefact(Generator, Reader, Protocol):
    """An artefact in its runtime: it answers chats, and shows how it renders and cuts them."""

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as text, ending where the assistant is to write."""

    def stops_at(self, token_id: int) -> bool:
        """Whether an answer ends with this token."""

    def next_log_probs(self, prefix: Sequence[int], *, vocab_size: int) -> Sequence[float]:
        """Natural logarithms of the probabilities of all tokens after `prefix`, in id order."""


@dataclass(frozen=True)
class SmokeReport:
    """Counts over the prompts; `num_same_token_ids` counts rendered chats, one more than the prompts.

    Of the `num_corpus_texts` that tokenizers disagree about, `num_same_corpus_ids` are cut alike as they stand, the
    others once they are normalised as the model's tokenizer does.
    `next_token_kl_nats` is the mean KL(merged || artefact) after a few prefixes of them, as the runtime computes it.
    `median_first_difference_tokens` says after how many tokens greedy answers leave the merged model's; None where
    at least half of them never do. Mean lengths count the tokens of the answers' texts, without end tokens.
    """

    runtime: Runtime
    num_prompts: int
    num_same_token_ids: int
    num_same_text: int
    num_stopped: int
    num_merged_stopped: int
    num_corpus_texts: int = 0
    num_same_corpus_ids: int = 0
    next_token_kl_nats: float | None = None
    median_first_difference_tokens: float | None = None
    mean_answer_tokens: float | None = None
    merged_mean_answer_tokens: float | None = None
    answers: tuple[SampleAnswer, ...] = ()


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
    token_ids = token_ids_of(tokenizer, texts)
    prefixes = probe_prefixes(token_ids)
    return Expected(
        prompts=prompts,
        answers=TransformersGenerator(merged).generate(prompts, sampling, seed=0),
        chats=chats,
        texts=texts,
        token_ids=token_ids,
        corpus=corpus_of(tokenizer),
        end_ids=end_ids(without_adapters(merged.model), tokenizer),
        special_tokens=tuple(sorted(special | set(tokenizer.all_special_tokens))),
        sampling=sampling,
        prefixes=prefixes,
        next_log_probs=next_log_probs(merged, prefixes),
    )


def smoke_test(
    path: Path, expected: Expected, *, runtime: Runtime, min_same_text: float, max_next_token_kl: float | None = None
) -> SmokeReport:
    """Loads the artefact at `path` in its runtime and lets it answer.

    Args:
        path: a model folder, or a .gguf file for llama.cpp.
        min_same_text: share of prompts whose greedy text must equal the merged model's.
        max_next_token_kl: largest mean KL to the merged model over a few prefixes, in nats; None measures only.

    Raises:
        ExportError: it does not load, adds tokens to chats, renders them as other text, cuts text into other tokens,
            prints special tokens, does not stop where the merged model does, too few of its answers are the merged
            model's, or its next-token distributions are too far.
    """
    try:
        if runtime == "transformers":
            report = _compare(_TransformersArtefact(path), expected, runtime=runtime, min_same_text=min_same_text)
            return _require_next_tokens(report, max_kl=max_next_token_kl)
        room = max(len(ids) for ids in expected.token_ids) + expected.sampling.max_new_tokens + 1
        with LlamaCppGenerator(path, max_length_tokens=room) as artefact:
            report = _compare(artefact, expected, runtime=runtime, min_same_text=min_same_text)
            return _require_next_tokens(report, max_kl=max_next_token_kl)
    except ModelError as error:
        raise ExportError(f"the artefact does not work in {runtime}: {error.what}", why=error.why) from error


class _TransformersArtefact:
    def __init__(self, folder: Path) -> None:
        loaded = load_model(folder)
        self._loaded, self._tokenizer = loaded, loaded.tokenizer
        self._generator = TransformersGenerator(loaded)

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        return self._generator.generate(prompts, settings, seed=seed)

    def render(self, messages: Sequence[Message]) -> str:
        return _rendered(self._tokenizer, messages)

    def tokenize_all(self, texts: Sequence[str]) -> list[list[int]]:
        return token_ids_of(self._tokenizer, texts)

    def ids_around_text(self) -> list[int]:
        return []  # transformers renders a chat and encodes it without special tokens

    def stops_at(self, token_id: int) -> bool:
        return token_id in end_ids(self._loaded.model, self._tokenizer)

    def next_log_probs(self, prefix: Sequence[int], *, vocab_size: int) -> Sequence[float]:
        return [float(value) for value in next_log_probs(self._loaded, [prefix])[0]]


def _compare(artefact: LoadedArtefact, expected: Expected, *, runtime: Runtime, min_same_text: float) -> SmokeReport:
    num_same_corpus_ids = _require_same_input(artefact, expected, runtime=runtime)
    _require_ends(artefact, expected, runtime=runtime)
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
    before, after = (artefact.tokenize_all([answer.text for answer in group]) for group in (expected.answers, answers))
    return SmokeReport(
        runtime=runtime,
        num_prompts=len(pairs),
        num_same_token_ids=len(expected.texts),
        num_same_text=num_same,
        num_stopped=sum(answer.finish_reason == "stop" for answer in answers),
        num_merged_stopped=sum(answer.finish_reason == "stop" for answer in expected.answers),
        num_corpus_texts=len(expected.corpus.texts),
        num_same_corpus_ids=num_same_corpus_ids,
        next_token_kl_nats=_next_token_kl(artefact, expected),
        median_first_difference_tokens=median_position(
            [first_difference(ours, theirs) for ours, theirs in zip(before, after, strict=True)]
        ),
        mean_answer_tokens=mean_length(after),
        merged_mean_answer_tokens=mean_length(before),
        answers=sample_answers(expected.prompts, expected.answers, answers),
    )


def _next_token_kl(artefact: LoadedArtefact, expected: Expected) -> float:
    pairs = zip(expected.prefixes, expected.next_log_probs, strict=True)
    actual = [artefact.next_log_probs(prefix, vocab_size=len(before)) for prefix, before in pairs]
    return next_token_kl(expected.next_log_probs, actual)


def _require_next_tokens(report: SmokeReport, *, max_kl: float | None) -> SmokeReport:
    kl = report.next_token_kl_nats
    if max_kl is not None and kl is not None and kl > max_kl:
        raise ExportError(
            f"{report.runtime}'s next-token distributions are {kl:.3g} nats from the merged model's",
            why=f"those of this format stay within {max_kl:g}",
            fix="choose a format with more bits; if float16 fails too, the conversion is wrong",
        )
    return report


def _require_same_input(artefact: LoadedArtefact, expected: Expected, *, runtime: Runtime) -> int:
    """The number of corpus texts that are cut alike as they stand."""
    require_nothing_around_chats(artefact, runtime=runtime)
    for messages, text in zip(expected.chats, expected.texts, strict=True):
        rendered = artefact.render(messages)
        if rendered != text:
            raise ExportError(
                f"{runtime} renders a chat as {rendered!r:.120}",
                why=f"the model learnt it as {text!r:.120}",
                fix="use a chat template that both Jinja engines read alike",
            )
    require_same_chats(artefact, expected.texts, expected.token_ids, runtime=runtime)
    return require_same_corpus(artefact, expected.corpus, runtime=runtime)


def _require_ends(artefact: LoadedArtefact, expected: Expected, *, runtime: Runtime) -> None:
    missing = [token for token in expected.end_ids if not artefact.stops_at(token)]
    if missing:
        raise ExportError(
            f"{runtime} does not stop at token {missing[0]}",
            why="the merged model ends its answers with it: they would never end",
            fix="name it in generation_config.json's eos_token_id",
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
