"""An Ollama Modelfile: the weights' file, the model's stops and sampling, and its chat template in Go's language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.data import Message, end_of_turn_id
from distill.errors import DataError, ExportError
from distill.files import read_json, write_text
from distill.models import Tokenizer, load_tokenizer

Role = Literal["system", "user", "assistant"]

MODELFILE = "Modelfile"
_PARAMETERS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# Words that no template prints by itself, so that what stands around them is the template's own.
_MARKS = {role: f"zq{number}vx" for number, role in enumerate(_ROLES)}
# Chats of every order of roles that a user can bring about, with white space that some templates strip.
_CHATS: tuple[tuple[tuple[Role, str], ...], ...] = (
    (("user", "Hi"),),
    (("user", " a \n"),),
    (("system", "\tBe brief. "), ("user", "Hi")),
    (("user", "Hi"), ("assistant", " Hello!\n\n"), ("user", "And?")),
    (("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "{{ 5 }} <6>")),
)


@dataclass(frozen=True)
class TurnTemplate:
    """A chat as turns: what stands before and after each role's words, and before the answer to come.

    `preamble` stands in front of a chat that has no system message.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    preamble: str
    answer: str

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as text, ending where the assistant is to write."""
        has_system = messages[0].role == "system"
        turns = [self.before[m.role] + m.content + self.after[m.role] for m in messages]
        return ("" if has_system else self.preamble) + "".join(turns) + self.answer

    def to_go(self) -> str:
        """The same as a Go text/template over Ollama's `.System` and `.Messages`."""
        branches = "".join(
            f'{{{{ {"if" if role == "system" else "else if"} eq .Role "{role}" }}}}'
            f"{self.before[role]}{{{{ .Content }}}}{self.after[role]}"
            for role in _ROLES
        )
        preamble = f"{{{{ if not .System }}}}{self.preamble}{{{{ end }}}}" if self.preamble else ""
        return f"{preamble}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{self.answer}"


def turn_template(tokenizer: Tokenizer) -> TurnTemplate | None:
    """The tokenizer's chat template as turns, or None unless it provably is no more than that.

    The turns are read off one rendered chat, and have to give the text of every other one, a leading bos token
    included: the .gguf file tells its runtime to add none.

    Returns:
        None where a chat comes out otherwise, the template refuses one, or its words cannot stand in a Modelfile.
    """
    try:
        turns = _read_off(tokenizer)
        if turns is None or any(_unquotable(text) for text in (*turns.before.values(), *turns.after.values())):
            return None
        if _unquotable(turns.preamble) or _unquotable(turns.answer):
            return None
        for chat in _CHATS:
            messages = [Message(role, content) for role, content in chat]
            if _rendered(tokenizer, messages) != turns.render(messages):
                return None
    except _template_errors():
        return None
    return turns


def modelfile(merged_folder: Path, *, gguf_name: str) -> str:
    """The Modelfile for `gguf_name`, a file beside it, made from the model in `merged_folder`.

    Without a template that is proven, none is written: the file says so, and the one inside the GGUF holds.

    Raises:
        ModelError: the tokenizer cannot be loaded.
        ExportError: there is no generation_config.json, or an end token cannot stand in a Modelfile.
    """
    tokenizer = load_tokenizer(merged_folder)
    config = _generation_config(merged_folder)
    lines = [f"FROM ./{gguf_name}"]
    turns = turn_template(tokenizer)
    if turns is None:
        lines.append("# No TEMPLATE: the model's own Jinja template, inside the GGUF, says more than turns can.")
    else:
        lines.append(f'TEMPLATE """{turns.to_go()}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in _stops(tokenizer, config)]
    for name, parameter in _PARAMETERS.items():
        value = config.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"PARAMETER {parameter} {value:g}")
    return "\n".join(lines) + "\n"


def write_modelfile(merged_folder: Path, folder: Path, *, gguf_name: str) -> None:
    """Writes `folder`/Modelfile; raises as `modelfile` does."""
    write_text(folder / MODELFILE, modelfile(merged_folder, gguf_name=gguf_name))


def _read_off(tokenizer: Tokenizer) -> TurnTemplate | None:
    """The turns as three rendered chats show them; None where they show something else."""
    system, user, assistant = (Message(role, mark) for role, mark in _MARKS.items())
    open_chat, bare = _rendered(tokenizer, [user]), _rendered(tokenizer, [user], asks=False)
    closed = _split(_rendered(tokenizer, [user, assistant], asks=False), ["user", "assistant"])
    whole = _split(_rendered(tokenizer, [system, user, assistant, user]), ["system", "user", "assistant", "user"])
    alone = _split(bare, ["user"])
    if closed is None or whole is None or alone is None or not open_chat.startswith(bare):
        return None
    before_system, system_to_user, user_to_assistant, assistant_to_user, _ = whole
    after_user, after_assistant = alone[1], closed[2]
    before_user = assistant_to_user.removeprefix(after_assistant)
    before = {
        "system": before_system,
        "user": before_user,
        "assistant": user_to_assistant.removeprefix(after_user),
    }
    after = {
        "system": system_to_user.removesuffix(before_user),
        "user": after_user,
        "assistant": after_assistant,
    }
    preamble = alone[0].removesuffix(before_user)
    return TurnTemplate(before, after, preamble, answer=open_chat.removeprefix(bare))


def _split(text: str, roles: Sequence[Role]) -> list[str] | None:
    """What stands around the marks of `roles`, in this order and nowhere else."""
    parts = []
    for role in roles:
        part, found, text = text.partition(_MARKS[role])
        if not found:
            return None
        parts.append(part)
    parts.append(text)
    return None if any(mark in part for part in parts for mark in _MARKS.values()) else parts


def _rendered(tokenizer: Tokenizer, messages: Sequence[Message], *, asks: bool = True) -> str:
    rows = [message.to_json() for message in messages]
    return str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=asks))


def _template_errors() -> tuple[type[Exception], ...]:
    """What a template raises on a chat it refuses, such as one with a system message."""
    import jinja2

    return (jinja2.TemplateError, ValueError)


def _stops(tokenizer: Tokenizer, config: Mapping[str, object]) -> list[str]:
    """End of turn, the tokenizer's end and those of generation_config.json, as text."""
    named = config.get("eos_token_id")
    ends = [end_of_turn_id(tokenizer), tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return [str(tokenizer.convert_ids_to_tokens(index)) for index in dict.fromkeys(ends) if index is not None]


def _generation_config(folder: Path) -> Mapping[str, object]:
    try:
        return read_json(folder / "generation_config.json")
    except DataError as error:
        raise ExportError(error.what, why="it names the end tokens", fix="export the model again") from error


def _quoted(stop: str) -> str:
    if _unquotable(stop) or "\n" in stop:
        raise ExportError(f"the end token {stop!r} cannot stand in a Modelfile", why="it would end the quotation")
    return f'"""{stop}"""' if '"' in stop else f'"{stop}"'


def _unquotable(text: str) -> bool:
    """Whether `text` would end the quotation or open an action of the template."""
    return '""' in text or text[:1] == '"' or text[-1:] == '"' or "{{" in text or "}}" in text
