import json
import logging
import os
import resource
import threading

import pytest

from distill.errors import DataError, StageError
from eval.mt_bench.call_store import Call, latest_calls, open_calls, read_calls


def call(key: str, status: str = "done", **changes: object) -> Call:
    values: dict = {
        "judge_sha": "j",
        "prompt_sha": "p",
        "question_sha": "q",
        "reference_set": None,
        "question_id": 1,
        "turn": 1,
        "models": ("m",),
        "game": 1,
        "repeat": 0,
        "prompt": "own",
        "output_format": "[[rating]]",
        "user_prompt": "Ü",
        "text": "Rating: [[7]]",
        "finish_reason": "stop",
        "own_verdict": None,
        "model": "served",
        "system_fingerprint": None,
        "num_prompt_tokens": 5,
        "num_completion_tokens": 2,
        "left_out": ("seed",),
        "error": None,
        "tstamp": 1.0,
    }
    return Call(key, status, **(values | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model_judgment" / "j_single.calls.jsonl"


def test_calls_are_read_back_as_they_were(path):
    with open_calls(path) as store:
        store.append(call("a"))
        store.append(call("b", "failed", error="gone", own_verdict={"score": 1.5}))
    with open_calls(path) as store:
        store.append(call("c"))
        kept = store.calls
    assert (
        read_calls(path)
        == kept
        == [call("a"), call("b", "failed", error="gone", own_verdict={"score": 1.5}), call("c")]
    )


def test_a_call_is_on_the_disk_before_the_store_is_closed(path):
    with open_calls(path) as store:
        store.append(call("a"))
        assert [found.key for found in read_calls(path)] == ["a"]


def test_no_file_holds_no_call(path):
    assert read_calls(path) == []


@pytest.mark.parametrize("kept", [1, -1, 40])
def test_a_torn_last_line_is_cut_off_and_told(path, kept: int, caplog):
    with open_calls(path) as store:
        store.append(call("a"))
    whole = path.read_bytes()
    with open_calls(path) as store:
        store.append(call("b"))
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:kept])
    assert [found.key for found in read_calls(path)] == ["a"]
    with caplog.at_level(logging.WARNING), open_calls(path) as store:
        store.append(call("c"))
    assert [found.key for found in read_calls(path)] == ["a", "c"]
    assert "the last line was cut off" in caplog.text


def test_a_torn_first_line_makes_a_new_store(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"format": "dis')
    with open_calls(path) as store:
        store.append(call("a"))
    assert [found.key for found in read_calls(path)] == ["a"]


@pytest.mark.parametrize("line", ["{}", "[1]", "nonsense"])
def test_a_damaged_line_in_the_middle_is_refused_with_its_place(path, line: str):
    with open_calls(path) as store:
        store.append(call("a"))
    header, row = path.read_text().splitlines()
    path.write_text(f"{header}\n{line}\n{row}\n")
    with pytest.raises(DataError, match=rf"{path}:2 is no judge's call"):
        read_calls(path)


def test_another_file_is_no_store(path):
    path.parent.mkdir(parents=True)
    path.write_text('{"question_id": 1}\n{"question_id": 2}\n')
    with pytest.raises(DataError, match="is no store of judge's calls of version 1"):
        read_calls(path)


def test_a_second_writer_is_refused(path):
    refused: list[str] = []

    def second() -> None:
        try:
            with open_calls(path):
                pass
        except StageError as error:
            refused.append(str(error))

    with open_calls(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "in use by another process" in refused[0]


def test_a_full_disk_leaves_the_store_as_it_was(path):
    """The limit on a file's size stands for the disk: the row goes in part of the way, and is taken back."""
    with open_calls(path) as store:
        store.append(call("a"))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        try:
            with pytest.raises(StageError, match=r"(?s)cannot be written: File too large.*paid for, again.*make room"):
                store.append(call("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        store.append(call("c"))
    assert [found.key for found in read_calls(path)] == ["a", "c"]


def test_a_row_is_synced_to_the_disk(path, monkeypatch):
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_size), real(descriptor)))
    with open_calls(path) as store:
        store.append(call("a"))
    assert synced[-1] == path.stat().st_size


def test_a_failure_never_displaces_a_reply():
    assert latest_calls([call("a"), call("a", "failed")])["a"].status == "done"
    assert latest_calls([call("a", "failed", error="x"), call("a", "failed", error="y")])["a"].error == "y"
    assert latest_calls([call("a", "failed"), call("a")])["a"].status == "done"


def test_the_header_names_format_and_version(path):
    with open_calls(path):
        pass
    assert json.loads(path.read_text()) == {"format": "distill-judge-calls", "version": 1}
