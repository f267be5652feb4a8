"""Opens whatever answers questions: a checkpoint, adapters, an export, a GGUF file, or a chat server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from distill.data import Message, render_prompt, template_hash
from distill.decoding import (
    ChatGenerator,
    Generator,
    LinearAlignmentSettings,
    LlamaCppGenerator,
    ServerSettings,
    answering,
)
from distill.decoding.endpoint_client import fault_of
from distill.errors import EndpointError, RecipeError
from distill.files import fingerprint, sha256_of_file
from distill.models import DtypeName, load_model, load_tokenizer
from eval.mt_bench.answers import file_name_of
from eval.mt_bench.questions import Question

log = logging.getLogger(__name__)

ROOM_FOR_PROMPTS = 2048
SECTION = "the answering model"


@dataclass(frozen=True)
class NamedModel:
    """A model to ask and the id it answers under."""

    model_id: str
    source: str


@dataclass(frozen=True)
class OpenedModel:
    """A model that is ready to answer.

    `fingerprint` is of the weights; `provenance` says how prompts are made of chats; `parallel` is None for models of
    this process, which are asked in batches.
    """

    generator: Generator
    fingerprint: str
    provenance: dict[str, object] = field(default_factory=dict)
    parallel: int | None = None


@dataclass(frozen=True)
class LoadingOptions:
    """How weights of this machine are loaded."""

    dtype: DtypeName = "float32"
    device: str = "auto"
    revision: str | None = None
    chat_template: Path | None = None
    max_new_tokens: int = 1024
    alignment: LinearAlignmentSettings | None = None


def dtype_of(name: str) -> DtypeName:
    """A dtype by its name.

    Raises:
        RecipeError: there is none of this name.
    """
    known: dict[str, DtypeName] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
    if name not in known:
        raise RecipeError(f"--dtype is {name}", why=f"known are {', '.join(known)}", fix="--dtype float32")
    return known[name]


def named_models(words: list[str], *, model_id: str | None = None) -> list[NamedModel]:
    """Models as the command line names them: `MODEL`, filed under its own name, or `ID=MODEL`.

    Raises:
        RecipeError: `model_id` goes with one model, two share an id, or an id cannot name a file.
    """
    if model_id is not None and len(words) != 1:
        raise RecipeError(
            f"--model-id is {model_id}, and {len(words)} models are named",
            why="each needs an id of its own",
            fix="write ID=MODEL for each",
        )
    models = []
    for word in words:
        name, sign, source = word.partition("=")
        if not sign or Path(word).exists():
            name, source = word.strip("/"), word
        models.append(NamedModel(file_name_of(model_id or name), source))
    by_id: dict[str, str] = {}
    for model in models:
        if model.model_id in by_id:
            raise RecipeError(
                f"{by_id[model.model_id]} and {model.source} would both be filed under {model.model_id}",
                why="FastChat knows a model by its file's name",
                fix="write ID=MODEL",
            )
        by_id[model.model_id] = model.source
    return models


@contextmanager
def opened_model(source: str, first: Question, options: LoadingOptions) -> Iterator[OpenedModel]:
    """A model of this machine, or of the hub's cache; a folder that holds a GGUF file is asked through llama.cpp.

    Args:
        source: a model folder, a folder of adapters, an exported folder, a .gguf file, `embedded`, or a hub id.
        first: its first turn is rendered and kept in the provenance, for people to look at.
        options: how to load it.

    Raises:
        ModelError: it cannot be loaded.
    """
    messages = [] if first.system is None else [Message("system", first.system)]
    messages.append(Message("user", first.turns[0]))
    gguf = _gguf_file(Path(source))
    if gguf is None:
        loaded = load_model(
            source,
            dtype=options.dtype,
            device=options.device,
            revision=options.revision,
            chat_template=options.chat_template,
        )
        rendered = loaded.tokenizer.decode(render_prompt(loaded.tokenizer, messages))
        told = _told("transformers", template_hash(loaded.tokenizer), str(rendered))
        if options.alignment is None:
            yield OpenedModel(answering(loaded, None), loaded.fingerprint, told)
            return
        steered_by = options.alignment.model_dump(mode="json")
        made_of = fingerprint([loaded.fingerprint, steered_by])
        yield OpenedModel(answering(loaded, options.alignment), made_of, {**told, "linear_alignment": steered_by})
        return
    require_unsteered(options.alignment, f"{gguf} answers in llama.cpp")
    if options.chat_template is not None:
        raise RecipeError(
            f"--chat-template is {options.chat_template}, and {gguf} brings its own",
            why="llama.cpp renders chats with the template in the file, as people who run the file do",
            fix="leave the option out, or write the file again with the other template",
        )
    room = ROOM_FOR_PROMPTS + 2 * options.max_new_tokens
    with LlamaCppGenerator(gguf, max_length_tokens=room) as generator:
        told = _told("llama.cpp", template_hash(load_tokenizer(gguf)), generator.render(messages))
        yield OpenedModel(generator, sha256_of_file(gguf), told)


def opened_server(settings: ServerSettings) -> OpenedModel:
    """The model of a chat server; it renders prompts with a template of its own, which is not known here.

    A server that does not list its models, or lists them under other names, leaves the weights unknown, and always
    does. One that cannot be asked just now does not: that is refused, after the client's repetitions, since the same
    server would have another fingerprint later, and every question would be asked again.

    Raises:
        EndpointError: the key's environment variable is not set, or the server does not answer.
    """
    generator = ChatGenerator(settings, section=SECTION)
    host = urlsplit(settings.base_url).netloc
    try:
        served = generator.served_model()
    except EndpointError as error:
        # Without a cause the reply was read, and says something else.
        if error.__cause__ is not None and fault_of(error) == "passing":
            raise EndpointError(
                f"which weights {settings.model} stands for cannot be asked: {error.what}",
                why=f"{error.why}; answers are filed under them",
                fix=error.fix or "run the same command again",
            ) from error
        log.warning("%s: which weights stand behind the name stays unknown", error.what)
        served = None
    told: dict[str, object] = {"runtime": "chat server", "host": host, "model": settings.model, "served_model": served}
    return OpenedModel(generator, fingerprint(told), told, parallel=settings.max_concurrent)


def require_unsteered(alignment: LinearAlignmentSettings | None, what: str) -> None:
    """Refuses a principle where no logits can be had.

    Raises:
        RecipeError: `alignment` is given.
    """
    if alignment is not None:
        raise RecipeError(
            f"--principle is given, and {what}",
            why="steering needs the logits of every next token with and without the principle",
            fix="leave --principle out, or name a folder with the model's own weights",
        )


def _told(runtime: str, template_sha256: str, first_prompt: str) -> dict[str, object]:
    return {"runtime": runtime, "template_sha256": template_sha256, "first_prompt": first_prompt}


def _gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path is or holds.

    Raises:
        RecipeError: a folder holds several.
    """
    if path.suffix == ".gguf" and path.is_file():
        return path
    files = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(files) > 1:
        raise RecipeError(f"{path} holds {len(files)} GGUF files", fix=f"name one: {files[0]}")
    return files[0] if files else None
