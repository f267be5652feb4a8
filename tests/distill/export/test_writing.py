import pytest

from distill.data import Conversation, Message, tokenize_conversation, write_conversations
from distill.errors import RecipeError
from distill.export.writing import calibration_windows, read_calibration
from distill.models import load_tokenizer


def test_without_a_file_nothing_is_fitted(dialogues):
    assert read_calibration(None, held_out=dialogues) == ()


def test_other_chats_than_the_held_out_are_read(dialogues, tmp_path):
    write_conversations(tmp_path / "train.jsonl", dialogues[:3])
    chats = read_calibration(tmp_path / "train.jsonl", held_out=dialogues[3:])
    assert [chat.messages for chat in chats] == [chat.messages for chat in dialogues[:3]]


def test_calibration_on_held_out_chats_is_refused(dialogues, tmp_path):
    write_conversations(tmp_path / "train.jsonl", dialogues[:3])
    with pytest.raises(RecipeError, match=r"train\.jsonl holds 2 of the held-out"):
        read_calibration(tmp_path / "train.jsonl", held_out=dialogues[1:])


def test_an_empty_file_of_chats_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(RecipeError, match="holds no conversations"):
        read_calibration(tmp_path / "train.jsonl", held_out=())


def test_windows_are_the_rendered_chats_one_after_another(llama_folder, dialogues):
    tokenizer = load_tokenizer(llama_folder)
    rows = [tokenize_conversation(tokenizer, chat, max_length_tokens=512).input_ids for chat in dialogues]
    whole = [token for row in rows for token in row]
    windows = calibration_windows(llama_folder, dialogues)
    assert len({len(window) for window in windows}) == 1
    ids = [token for window in windows for token in window]
    assert ids == whole[: len(ids)]
    assert len(whole) - len(ids) < len(windows[0])


def test_chats_without_an_answer_are_refused(llama_folder):
    silent = Conversation("silent", (Message("user", "Hello?"),))
    with pytest.raises(RecipeError, match="no chat with an answer"):
        calibration_windows(llama_folder, [silent])
