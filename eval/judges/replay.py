"""A judgment file as a judge: verdicts that were given before, FastChat's or ours, without asking anyone."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distill.errors import DataError
from distill.files import sha256_of_file
from eval.judges.base import JudgeReply
from eval.mt_bench.judgments import FAILED_SCORE, GameWinner, read_pair, read_single
from eval.mt_bench.matches import Match
from eval.mt_bench.prompt_sets import Mode
from eval.mt_bench.verdicts import API_ERROR_TEXT, Verdict, Winner

log = logging.getLogger(__name__)

Key = tuple[int, int, tuple[str, ...]]


class ReplayJudge:
    """Answers from `<judge>_single.jsonl` or `<judge>_pair.jsonl`; see `eval.judges.base.Judge`.

    A match is answered by the row of the same question, turn and models, if that row was judged on the same prompt;
    rows of a file that keeps no prompts are taken as they are. Rows that repeat a key answer the repeats, in order.
    Matches without a row are left unanswered.

    Args:
        path: the file.
        mode: what it holds.
        name: names the new judgment files; the judge of the file's first row by default.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path, *, mode: Mode, name: str | None = None) -> None:
        self._path, self._mode, self._sha256 = path, mode, sha256_of_file(path) if path.is_file() else ""
        self._rows: dict[Key, list[tuple[str | None, JudgeReply]]] = defaultdict(list)
        stored = self._read_single() if mode == "single" else self._read_pair()
        self.name = name or stored or path.stem.removesuffix(f"_{mode}")

    @property
    def identity(self) -> Mapping[str, object]:
        """The file's content."""
        return {"kind": "replay", "mode": self._mode, "sha256": self._sha256}

    def judge(self, matches: Sequence[Match]) -> Iterator[tuple[int, JudgeReply]]:
        """Replies at once, in the order of the matches; what the file lacks is left out.

        Raises:
            DataError: the matches are of the other mode.
        """
        num_absent = 0
        for index, match in enumerate(matches):
            if match.mode != self._mode:
                raise DataError(f"{self._path} holds mode {self._mode}", why=f"mode {match.mode} is judged")
            rows = self._rows.get((match.question.question_id, match.turn, match.models), [])
            if match.repeat >= len(rows):
                num_absent += 1
                continue
            prompt, reply = rows[match.repeat]
            if prompt is not None and prompt != match.user_prompt:
                reply = JudgeReply("", error=f"{self._path.name} judged another prompt: another answer, or template")
            yield index, reply
        if num_absent:
            log.warning("%s holds no verdict for %d of %d matches", self._path, num_absent, len(matches))

    def _read_single(self) -> str:
        rows = read_single(self._path)
        for row in rows:
            score = None if row.score is None or row.score == FAILED_SCORE else float(row.score)
            own = Verdict("unscored" if score is None else "ok", "stored", None, score=score)
            reply = _reply(row.judgment, own, row.judge_name)
            self._rows[row.question_id, row.turn, (row.model,)].append((row.user_prompt, reply))
        return rows[0].judge_name

    def _read_pair(self) -> str:
        rows = read_pair(self._path)
        for row in rows:
            texts, prompts = (row.g1_judgment, row.g2_judgment), (row.g1_user_prompt, row.g2_user_prompt)
            shown = ((row.model_1, row.model_2), (row.model_2, row.model_1))
            for models, text, prompt, winner in zip(shown, texts, prompts, row.games, strict=True):
                reply = _reply(text, _pair_verdict(winner, models, row.model_1), row.judge_name)
                self._rows[row.question_id, row.turn or 1, models].append((prompt, reply))
        return rows[0].judge_name


def _reply(text: str | None, own: Verdict, judge: str) -> JudgeReply:
    """The row's words, or its verdict where it keeps none."""
    if text is not None and text.strip() == API_ERROR_TEXT:
        return JudgeReply("", model=judge, error=f"the file holds {API_ERROR_TEXT}: the call had failed")
    return JudgeReply("", model=judge, verdict=own) if text is None else JudgeReply(text, model=judge)


def _pair_verdict(winner: GameWinner, models: tuple[str, str], model_1: str) -> Verdict:
    if winner == "error":
        return Verdict("unscored", "stored", None)
    label: Winner = "tie" if winner == "tie" else "A" if (winner == "model_1") == (models[0] == model_1) else "B"
    return Verdict("ok", "stored", None, winner=label)
