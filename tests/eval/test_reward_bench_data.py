"""Benchmarks of reward models: by hand, and the public files' counts."""

import json
import os
from pathlib import Path

import pytest

from distill.errors import DataError
from eval.reward_bench_data import BenchPair, read_llmbar, read_pandalm, read_reward_bench


def write(path: Path, rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def shown(pair: BenchPair) -> tuple[str, ...]:
    return (pair.section, pair.subset, pair.prompt[0].content, pair.better, pair.worse)


def test_llmbar_labels_name_the_better_output(tmp_path: Path):
    row = {"input": "q", "output_1": "one", "output_2": "two", "label": 1}
    write(tmp_path / "Natural" / "dataset.json", [row])
    write(tmp_path / "Adversarial" / "Manual" / "dataset.json", [{**row, "label": "2"}])
    assert [shown(pair) for pair in read_llmbar(tmp_path)] == [
        ("LLMBar", "Adversarial/Manual", "q", "two", "one"),
        ("LLMBar", "Natural", "q", "one", "two"),
    ]


def test_pandalm_takes_the_majority_and_leaves_ties_out(tmp_path: Path):
    def row(*votes: int, given: str = "") -> dict[str, object]:
        return {
            "instruction": "do",
            "input": given,
            "response1": "one",
            "response2": "two",
            "cmp_key": "a_b",
            **{f"annotator{number}": vote for number, vote in enumerate(votes, start=1)},
        }

    path = write(tmp_path / "testset-v1.json", [row(1, 2, 1), row(2, 2, 0, given="it"), row(0, 0, 1), row(0, 1, 2)])
    assert [shown(pair) for pair in read_pandalm(tmp_path)] == [
        ("PandaLM", "a_b", "do", "one", "two"),
        ("PandaLM", "a_b", "do\n\nit", "two", "one"),
    ]
    write(path, [row(1, 1, 3)])
    with pytest.raises(DataError, match=r"annotators say \[1, 1, 3\]"):
        read_pandalm(path)


def test_reward_bench_rows_know_their_section(tmp_path: Path):
    row = {"prompt": "q", "chosen": "one", "rejected": "two"}
    path = write(tmp_path / "rows.json", [{**row, "subset": "hep-go"}, {**row, "subset": "mine"}])
    assert [shown(pair)[:2] for pair in read_reward_bench(path)] == [("reasoning", "hep-go"), ("mine", "mine")]


def test_wrong_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no dataset\.json"):
        read_llmbar(tmp_path)
    write(tmp_path / "dataset.json", [{"input": "q", "output_1": "1", "output_2": "2", "label": 3}])
    with pytest.raises(DataError, match="label is '3'"):
        read_llmbar(tmp_path)
    with pytest.raises(DataError, match="prompt is null"):
        read_reward_bench(write(tmp_path / "rows.json", [{"chosen": "a", "rejected": "b"}]))


@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_public_files_have_their_published_sizes():
    """LLMBar: 100 natural and 319 adversarial instances (134, 92, 47, 46)."""
    data = Path(os.environ["DISTILL_TEST_DATA"])
    counts: dict[str, int] = {}
    for pair in read_llmbar(data / "llmbar" / "LLMBar"):
        counts[pair.subset] = counts.get(pair.subset, 0) + 1
    assert counts == {
        "Natural": 100,
        "Adversarial/Neighbor": 134,
        "Adversarial/GPTInst": 92,
        "Adversarial/GPTOut": 47,
        "Adversarial/Manual": 46,
    }
    assert 700 < len(read_pandalm(data / "pandalm-testset")) < 999
