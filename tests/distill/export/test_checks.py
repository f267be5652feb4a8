import pytest

from distill.data import Conversation, Message
from distill.errors import ExportError
from distill.export.checks import Checks, read_checks, write_checks

CHAT = Conversation("c", (Message("user", "Hi"), Message("assistant", "Hello")))


def checks(**inputs):
    return Checks(source="student", inputs={"model": "m", "prompts": [CHAT.to_json()], **inputs}, max_kl=0.1)


def test_checks_survive_their_file(tmp_path):
    write_checks(tmp_path, checks())
    assert read_checks(tmp_path) == checks()
    assert read_checks(tmp_path).prompts() == (CHAT,)


def test_every_input_and_the_format_decide_the_key():
    keys = {checks().key("a"), checks().key("b"), checks(model="n").key("a"), checks(prompts=[]).key("a")}
    assert len(keys) == 4
    assert checks().key("a") == checks().key("a")


def test_a_lock_holds_no_chats():
    assert "Hello" not in str(checks().locked())
    assert checks().locked()["prompts"] != checks(prompts=[]).locked()["prompts"]


def test_a_lock_holds_no_path_of_this_machine():
    assert checks(settings={"teacher": "/data/big", "max_kl": None}).locked()["settings"] == {
        "teacher": "big",
        "max_kl": None,
    }
    assert checks(settings={"teacher": "owner/big"}).locked()["settings"] == {"teacher": "owner/big"}


def test_the_lineage_is_text():
    assert checks(lineage={"teacher": "big"}).lineage == {"teacher": "big"}
    assert checks().lineage == {}


@pytest.mark.parametrize("text", ["{", "{}", '{"source": "s", "inputs": {}, "surplus": 1}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "checks.json").write_text(text)
    with pytest.raises(ExportError, match=r"checks\.json is not readable"):
        read_checks(tmp_path)


def test_a_prompt_that_is_none_is_refused():
    with pytest.raises(ExportError, match="holds a prompt that is none"):
        checks(prompts=[{"id": 1}]).prompts()
