import json
import re

import pytest

from distill.data import CHAT_TEMPLATE, Message
from distill.errors import ExportError
from distill.export.modelfile import modelfile, turn_template, write_modelfile
from distill.models import load_tokenizer, train_tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PREAMBLE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}" + CHATML
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>", "<|pad|>")
CHAT = [
    Message("system", "Be brief."),
    Message("user", " Hi "),
    Message("assistant", "Hello!"),
    Message("user", "{{ .X }}"),
]


@pytest.fixture(scope="module")
def tokenizer():
    """One tokenizer whose template each test sets anew."""
    made = train_tokenizer(
        ["a b"],
        vocab_size=300,
        chat_template=CHATML,
        special_tokens=CHATML_TOKENS,
        end_of_turn="<|im_end|>",
        pad="<|pad|>",
    )

    def with_template(template):
        made.chat_template = template
        return made

    return with_template


def go(template: str, messages: list[Message]) -> str:
    """A reading of Go's text/template for `if`, `else if`, `range`, `eq`, `not` and fields, without trim markers."""
    pieces = re.split(r"(\{\{.*?\}\})", template, flags=re.DOTALL)
    system = "\n\n".join(m.content for m in messages if m.role == "system")

    def holds(condition: str, message: Message | None) -> bool:
        if condition == "not .System":
            return not system
        return message is not None and condition == f'eq .Role "{message.role}"'

    def block(at: int, message: Message | None, live: bool) -> tuple[str, int]:
        out = ""
        while at < len(pieces):
            word = pieces[at][2:-2].strip() if pieces[at].startswith("{{") else None
            if word is None:
                out += pieces[at] if live else ""
            elif word == ".Content":
                out += message.content if live and message else ""
            elif word == "range .Messages":
                for each in messages:
                    text, end = block(at + 1, each, live)
                    out += text
                at = end
            elif word.startswith("if "):
                done = False
                while word.startswith(("if ", "else if ")):
                    taken = live and not done and holds(word.removeprefix("else ").removeprefix("if "), message)
                    text, at = block(at + 1, message, taken)
                    out, done, word = out + text, done or taken, pieces[at][2:-2].strip()
            else:
                return out, at
            at += 1
        return out, at

    return block(0, None, True)[0]


@pytest.mark.parametrize("template", [CHATML, PREAMBLE, CHAT_TEMPLATE.replace("<|end|>", "<|im_end|>")])
@pytest.mark.parametrize("messages", [CHAT, CHAT[1:2], CHAT[1:]])
def test_gos_template_gives_jinjas_text(tokenizer, template, messages):
    """The system prompt that a template puts in itself is kept, and words that look like actions stay words."""
    made = tokenizer(template)
    rows = [message.to_json() for message in messages]
    expected = made.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    turns = turn_template(made)
    assert turns.render(messages) == expected
    assert go(turns.to_go(), messages) == expected


def test_chatml_known_answer(tokenizer):
    turns = turn_template(tokenizer(CHATML))
    assert turns.before == {role: f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")}
    assert set(turns.after.values()) == {"<|im_end|>\n"}
    assert (turns.preamble, turns.answer) == ("", "<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("message['content']", "message['content'] | trim"),
        CHATML.replace("message['content'] +", "message['content'] + loop.index | string +"),
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML,
        CHATML.replace("{% if add_generation_prompt %}", "{% if add_generation_prompt and messages | length < 4 %}"),
        CHATML.replace("'<|im_end|>\n' }}", '\'<|im_end|>"""\' }}'),
        "{{ messages[-1]['content'] }}{{ '<|im_start|>' if add_generation_prompt else '<|im_end|>' }}",
    ],
    ids=["trims", "counts", "refuses system", "forgets the answer", "quotes", "last message only"],
)
def test_a_template_that_is_more_than_turns_is_not_translated(tokenizer, template):
    assert turn_template(tokenizer(template)) is None


def test_the_modelfile_known_answer(llama_folder, tmp_path):
    """The fixture's template prints a role's token, the words and <|end|>, which is its only end token."""
    write_modelfile(llama_folder, tmp_path, gguf_name="model-q8_0.gguf")
    turns = "".join(
        f'{{{{ {word} eq .Role "{role}" }}}}<|{role}|>{{{{ .Content }}}}<|end|>'
        for word, role in (("if", "system"), ("else if", "user"), ("else if", "assistant"))
    )
    assert (tmp_path / "Modelfile").read_text() == (
        "FROM ./model-q8_0.gguf\n"
        f'TEMPLATE """{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}<|assistant|>"""\n'
        'PARAMETER stop "<|end|>"\n'
    )


@pytest.fixture
def changed(llama_folder, tmp_path):
    """Writes a folder of tokenizer and configurations with some keys replaced."""

    def write(template=None, **generation):
        load_tokenizer(llama_folder).save_pretrained(str(tmp_path))
        for name in ("config.json", "generation_config.json"):
            (tmp_path / name).write_bytes((llama_folder / name).read_bytes())
        values = json.loads((tmp_path / "generation_config.json").read_text()) | generation
        (tmp_path / "generation_config.json").write_text(json.dumps(values))
        if template is not None:
            (tmp_path / "chat_template.jinja").write_text(template)
        return tmp_path

    return write


def test_sampling_and_every_end_token_are_the_models(changed):
    folder = changed(temperature=0.7, top_k=20, repetition_penalty=1.05, eos_token_id=[3, 4])
    text = modelfile(folder, gguf_name="m.gguf")
    assert "PARAMETER temperature 0.7\nPARAMETER top_k 20\nPARAMETER repeat_penalty 1.05\n" in text
    assert text.count("PARAMETER stop ") == 2


def test_without_a_proof_the_modelfile_says_that_the_ggufs_template_holds(changed):
    text = modelfile(changed(CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")), gguf_name="m")
    assert "TEMPLATE" not in text.replace("# No TEMPLATE", "")
    assert 'PARAMETER stop "<|end|>"' in text


def test_a_folder_without_end_tokens_is_refused(changed):
    folder = changed()
    (folder / "generation_config.json").unlink()
    with pytest.raises(ExportError, match=r"generation_config\.json does not exist"):
        modelfile(folder, gguf_name="m.gguf")


def test_the_same_model_gives_the_same_bytes(llama_folder):
    assert modelfile(llama_folder, gguf_name="m") == modelfile(llama_folder, gguf_name="m")
