"""Public benchmarks of reward models as pairs: LLMBar, the PandaLM test set, RewardBench's rows."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.data import Message
from distill.data.rows import Row, read_rows, records_of
from distill.errors import DataError

NUM_PANDALM_ANNOTATORS = 3

REWARD_BENCH_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "chat-hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
"""Sections of RewardBench and their subsets (Lambert et al. 2024, arXiv:2403.13787, table 1)."""


@dataclass(frozen=True)
class BenchPair:
    """A prompt with its better and its worse answer, by people's word."""

    section: str
    subset: str
    prompt: tuple[Message, ...]
    better: str
    worse: str


def read_llmbar(folder: Path) -> list[BenchPair]:
    """LLMBar's dataset.json files below a folder; the folder of each names its subset.

    Source:
        Zeng et al. 2023, arXiv:2310.07641; github.com/princeton-nlp/LLMBar, folder Dataset/LLMBar (MIT).

    Raises:
        DataError: there is no file, or a row is wrong.
    """
    files = sorted(folder.glob("**/dataset.json"))
    if not files:
        raise DataError(f"{folder} holds no dataset.json", why="LLMBar keeps one a subset", fix="check the path")
    pairs = []
    for file in files:
        subset = "/".join(file.parent.relative_to(folder).parts) or file.parent.name
        for row in records_of(read_rows(file), _row, name=str(file), max_wrong_share=0.0):
            texts = [_text(row, name) for name in ("input", "output_1", "output_2")]
            label = str(row.values.get("label"))
            if label not in ("1", "2"):
                raise DataError(f"{row.where}: label is {label!r}", why="1 or 2 was expected: the better output")
            better, worse = texts[1:] if label == "1" else texts[:0:-1]
            pairs.append(BenchPair("LLMBar", subset, (Message("user", texts[0]),), better, worse))
    return pairs


def read_pandalm(path: Path) -> list[BenchPair]:
    """The PandaLM test set: the answer that most of three annotators prefer; rows that they call a tie are left out.

    The subset is the pair of models that answered.

    Source:
        Wang et al. 2023, arXiv:2306.05087; github.com/WeOpenML/PandaLM, data/testset-v1.json (Apache-2.0).

    Raises:
        DataError: the file is missing, or a row is wrong.
    """
    path = path / "testset-v1.json" if path.is_dir() else path
    pairs = []
    for row in records_of(read_rows(path), _row, name=str(path), max_wrong_share=0.0):
        votes = [row.values.get(f"annotator{number + 1}") for number in range(NUM_PANDALM_ANNOTATORS)]
        if any(vote not in (0, 1, 2) for vote in votes):
            raise DataError(f"{row.where}: annotators say {votes}", why="0 (tie), 1 or 2 was expected of each of three")
        preferred, count = Counter(votes).most_common(1)[0]
        if preferred == 0 or count < 2:
            continue
        given = _text(row, "input")
        instruction = _text(row, "instruction")
        answers = [_text(row, "response1"), _text(row, "response2")]
        better, worse = answers if preferred == 1 else answers[::-1]
        prompt = (Message("user", f"{instruction}\n\n{given}" if given.strip() else instruction),)
        pairs.append(BenchPair("PandaLM", str(row.values.get("cmp_key")), prompt, better, worse))
    return pairs


def read_reward_bench(path: Path) -> list[BenchPair]:
    """Rows of prompt, chosen, rejected and subset, as RewardBench's; a subset that it does not know is its own section.

    Raises:
        DataError: the file is missing, or a row is wrong.
    """
    sections = {subset: section for section, subsets in REWARD_BENCH_SECTIONS.items() for subset in subsets}
    pairs = []
    for row in records_of(read_rows(path), _row, name=str(path), max_wrong_share=0.0):
        subset, prompt = str(row.values.get("subset", path.stem)), (Message("user", _text(row, "prompt")),)
        section = sections.get(subset, subset)
        pairs.append(BenchPair(section, subset, prompt, _text(row, "chosen"), _text(row, "rejected")))
    return pairs


READERS: Mapping[str, Callable[[Path], list[BenchPair]]] = {
    "llmbar": read_llmbar,
    "pandalm": read_pandalm,
    "reward-bench": read_reward_bench,
}


def _row(row: Row) -> Row:
    return row


def _text(row: Row, name: str) -> str:
    value = row.values.get(name)
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{row.where}: {name} is {json.dumps(value)[:80]}", why="a text was expected")
    return value
