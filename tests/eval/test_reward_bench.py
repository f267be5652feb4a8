"""Accuracies by subset, with a reward that counts letters."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from distill.data import Message
from distill.errors import DataError
from eval import reward_bench as module
from eval.reward_bench import read_sets, reward_bench
from eval.reward_bench_data import BenchPair


class LetterScorer:
    """The reward is the number of e's; it reads eight letters of an answer."""

    identity, calibration, max_length_tokens = "letters", None, 8

    def encode(self, conversation: Sequence[Message]) -> list[int]:
        return [0] * len(conversation[-1].content)

    def score(self, conversations: Sequence[Sequence[Message]]) -> torch.Tensor:
        return torch.tensor([float(conversation[-1].content.count("e")) for conversation in conversations])


def pair(subset: str, better: str, worse: str, prompt: str) -> BenchPair:
    return BenchPair("S", subset, (Message("user", prompt),), better, worse)


PAIRS = [
    pair("a", "ee", "e", "1"),
    pair("a", "e", "ee", "2"),
    pair("a", "e", "e", "3"),
    pair("b", "ee", "e", "4"),
    pair("b", "e", "a" * 9, "5"),
]


def test_ties_count_half_and_sections_weigh_subsets_by_count():
    """a: (1 + 0 + 1/2)/3; b: 1 of the one that was read; all: 2.5/4, and of five between 2.5 and 3.5."""
    found = {score.subset: score for score in reward_bench(LetterScorer(), PAIRS, name="letters").scores}
    assert found["a"].accuracy.mean == pytest.approx(0.5)
    assert found["b"].accuracy.mean == 1.0
    assert found["all"].accuracy.mean == pytest.approx(2.5 / 4)
    assert (found["all"].low, found["all"].high) == (pytest.approx(0.5), pytest.approx(0.7))
    assert (found["all"].num_ties, found["all"].num_unread) == (1, 1)


def test_a_section_of_one_subset_has_one_row():
    scores = reward_bench(LetterScorer(), PAIRS[:3], name="letters").scores
    assert [score.subset for score in scores] == ["a"]


def test_the_table_names_what_was_not_read():
    text = reward_bench(LetterScorer(), PAIRS, name="letters").to_markdown()
    assert "| S | b | 2 | 100.0 % [0.0, 100.0] | 0 | 1 | 50.0 to 100.0 % |" in text


def test_nothing_to_measure_is_refused():
    with pytest.raises(DataError, match="no set is named"):
        read_sets({"llmbar": None})
    with pytest.raises(DataError, match="no pairs to measure a reward model on"):
        reward_bench(LetterScorer(), [], name="letters")


def test_the_command_prints_table_or_json_and_refuses(tmp_path: Path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"prompt": str(i), "chosen": "ee", "rejected": "e", "subset": "s"} for i in range(3)]))
    monkeypatch.setattr(module, "load_scorer", lambda name: LetterScorer())
    monkeypatch.setattr("sys.argv", ["reward_bench", "letters", "--reward-bench", str(path)])
    module.main()
    assert "| s | s | 3 | 100.0 %" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["reward_bench", "letters", "--reward-bench", str(path), "--json"])
    module.main()
    assert json.loads(capsys.readouterr().out)["scores"][0]["num_pairs"] == 3
    monkeypatch.setattr("sys.argv", ["reward_bench", "letters"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 2
    assert "no set is named" in capsys.readouterr().err
