"""The command line in this process."""

import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from distill import cli

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`distill WORDS` in this process: exit code, stdout, stderr. No message may be a traceback."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, words)])
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
