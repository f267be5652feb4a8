import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill import cli
from distill.cli_eval import eval_app
from distill.cli_eval_options import listed
from eval.mt_bench.answer_rows import AnswerRow, Choice, write_answer_rows
from eval.mt_bench.folder import open_bench

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Command]:
    """`distill eval WORDS` in this process: exit code, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distill", "eval", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(stop.value.code or 0), out, err

    loggers = [logging.getLogger(name) for name in ("distill", "eval")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield call
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """The embedded world's first questions, answered by a teacher who repeats the reference and a poor student."""
    bench = open_bench("embedded", data=tmp_path)
    rows = [json.loads(line) for line in bench.questions.read_text().splitlines()][:4]
    for model, cut in (("teacher", None), ("student", 5)):
        write_answer_rows(
            bench.folder / "model_answer" / f"{model}.jsonl",
            [
                AnswerRow(row["question_id"], "a", model, (Choice(0, tuple(t[:cut] for t in row["reference"])),), 0.0)
                for row in rows
            ],
        )
    return tmp_path


def test_the_verbs_are_there():
    names = [command.name or command.callback.__name__ for command in eval_app.registered_commands]
    assert names == ["fetch", "answer", "judge", "show", "compare", "rate", "agree"]


def test_names_are_listed_by_comma_or_by_option():
    assert listed(["a,b", " c "]) == ("a", "b", "c")
    assert listed(None) == ()


def test_a_benchmark_is_judged_shown_compared_and_rated(command: Command, answered: Path):
    where = ("--bench", "embedded", "--data", answered)
    asked = (*where, "--first-n", 4, "--json")
    plan = json.loads(command("judge", "--judge", "mock", *asked, "--dry-run")[1])
    assert {"what": "num_to_ask", "value": 16} in plan
    code, out, _ = command("judge", "--judge", "mock", "rule=length", *asked)
    assert (code, {"what": "num_ok", "value": 16} in json.loads(out)) == (0, True)
    pairs = ("--mode", "pairwise-baseline", "--baseline-model", "teacher")
    assert command("judge", "--judge", "mock", "rule=length", *asked, *pairs)[0] == 0
    code, out, err = command("show", *where, "--resamples", 200, "--json")
    assert (code, {row["model"] for row in json.loads(out)["single"][0]["scores"]}) == (3, {"student", "teacher"})
    assert "152 of 160 verdicts have no score" in err
    shown = ("--report", answered / "page.html", "--max-failure-rate", 1)
    assert command("show", *where, "--resamples", 200, *shown)[0] == 0
    assert (answered / "page.html").exists()
    compared = ("compare", "student", "teacher", *where, "--resamples", 200)
    assert command(*compared)[0] == 0
    assert command(*compared, "--fail-if-worse", 9)[0] == 0
    assert command("rate", "student", "teacher", *where, "--json")[0] == 0
    assert command("agree", *where, "--against", "mock-length")[0] == 0


def test_a_rate_on_trained_questions_is_refused(command: Command, answered: Path):
    where = ("--bench", "embedded", "--data", answered)
    pairs = ("--mode", "pairwise-all", "--first-n", 4)
    assert command("judge", "--judge", "mock", *where, *pairs)[0] == 0
    rows = [json.loads(line) for line in (answered / "embedded" / "question.jsonl").read_text().splitlines()]
    turns = [{"role": "user", "content": turn} for turn in rows[0]["turns"]]
    train = answered / "train.jsonl"
    messages = [turns[0], {"role": "assistant", "content": "x"}, turns[1], {"role": "assistant", "content": "y"}]
    train.write_text(json.dumps({"id": "t", "messages": messages}) + "\n")
    code, _, err = command("rate", "student", "teacher", *where, "--train", train)
    assert code == 3
    assert "stand in the training data" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fetch", "alpaca"), "nothing of this name is known"),
        (("fetch", "mt_bench", "--from", "absent"), "absent is no folder"),
        (("answer", "absent", "--dtype", "int4"), "--dtype is int4"),
        (("judge", "--mode", "both"), "--mode is both"),
        (("judge", "--judge", "oracle"), "--judge is oracle"),
        (("judge", "--judge", "mock", "--max-cost", "1"), "no price is known"),
        (("judge", "--judge", "mock", "--judge-model", "x"), "has no model"),
        (("judge", "--judge", "mock", "--batch-out", "b.jsonl"), "--batch-out goes with --judge batch"),
        (("show", "--compat", "alpaca"), "--compat is alpaca"),
        (("show", "--bench", "absent"), "--bench is absent"),
        (("compare", "a", "b", "--judge", "nobody"), "--judge is nobody"),
    ],
)
def test_a_wrong_request_is_refused(command: Command, answered: Path, words: tuple[str, ...], message: str):
    where = () if words[0] == "fetch" or "--bench" in words else ("--bench", "embedded")
    if words[0] == "fetch":
        where = ("--out", answered / "out")
    elif "compare" in words:
        command("judge", "--judge", "mock", "--bench", "embedded", "--data", answered, "--first-n", 4)
    data = () if words[0] == "fetch" else ("--data", answered)
    code, _, err = command(*words, *where, *data)
    assert code == 2, err
    assert message in err
