"""A judge's pair judgments as votes, and the table of how often each kind of judge agrees with people and itself."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distill.errors import DataError
from eval.agreement import HUMAN, Choice, Vote, agreement, read_votes
from eval.mt_bench.folder import BenchFolder
from eval.mt_bench.judge_prompts import read_judge_prompts
from eval.mt_bench.judgments import PairJudgment, read_pair
from eval.mt_bench.strict_pair import pair_verdicts

SETUPS = (("S1, ties count", True), ("S2, ties left out", False))
CHOICES: dict[str, Choice] = {"first": "model_a", "second": "model_b", "tie": "tie"}


def votes_of(rows: Iterable[PairJudgment], *, output_formats: Mapping[str, str] | None = None) -> list[Vote]:
    """One vote for each comparison with a verdict in both orders; orders that differ are a tie, as in the paper.

    Raises:
        DataError: one comparison holds judgments of two different answers.
    """
    return [
        Vote(v.judge, v.first, v.second, v.question_id, v.turn, CHOICES[v.winner])
        for v in pair_verdicts(rows, output_formats=output_formats)
        if v.winner is not None
    ]


def agreement_rows(votes: Sequence[Vote], *, against: str = HUMAN) -> list[dict[str, object]]:
    """A row for each kind of judge, turn and setup: how often it and `against` chose the same.

    Args:
        votes: of any kinds.
        against: the kind that the others are held against; among its own judges, too.
    """
    kinds = sorted({vote.kind for vote in votes}, key=lambda kind: (kind == against, kind))
    rows: list[dict[str, object]] = []
    for kind in kinds:
        for turn in sorted({vote.turn for vote in votes}):
            for setup, with_ties in SETUPS:
                found = agreement(votes, kind, against, turn=turn, with_ties=with_ties)
                if found.num_total:
                    rows.append(
                        {
                            "judges": f"{kind} and {against}",
                            "turn": turn,
                            "setup": setup,
                            "agree": found.num_agree,
                            "of": found.num_total,
                            "share": found.rate,
                        }
                    )
    return rows


def votes_in(files: Sequence[Path], bench: BenchFolder | None) -> list[Vote]:
    """The votes of files, or else of a benchmark: its `human_judgments` and its judges' pairs.

    Raises:
        DataError: a file is missing or wrong, or there is no vote at all.
    """
    folder = next((path for path in files if path.is_dir()), None)
    if folder is not None:
        raise DataError(
            f"{folder} is a folder", why="files of votes were expected", fix=f"distill eval agree --bench {folder}"
        )
    if bench is None:
        return [vote for path in files for vote in read_votes(path)]
    votes = [vote for path in sorted((bench.folder / "human_judgments").glob("*.json*")) for vote in read_votes(path)]
    formats = {prompt.name: prompt.output_format for prompt in read_judge_prompts(bench.prompts).values()}
    for path in sorted((bench.folder / "model_judgment").glob("*_pair.jsonl")):
        votes += votes_of(read_pair(path), output_formats=formats)
    if not votes:
        raise DataError(
            f"{bench.folder} holds no votes",
            why="neither human_judgments nor a judge's pairs are there",
            fix="distill eval fetch mt_bench, or name files of votes",
        )
    return votes
