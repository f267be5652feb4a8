"""What a judge's reply says: a score from 1 to 10 or a winner, found by a strict contract or by FastChat's own rules.

The strict contract reads the reply only, never the prompt. Reasoning blocks are left out; of all `[[...]]` the last
one counts, and several different ones are flagged `ambiguous`. A score may else stand after a rating word at the
start of one of the last three lines. Outside 1 to 10, or where nothing is found, the reply is `unscored`: no number
is ever made up for it.
"""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.errors import DataError

LOWEST_SCORE, HIGHEST_SCORE = 1.0, 10.0
TIE_DELTA = 0.1
API_ERROR_TEXT = "$ERROR$"

Winner = Literal["A", "B", "tie"]

_NUMBER = r"([+-]?[0-9]+(?:\.[0-9]*)?)"
_OF_TEN = r"(?:\s*/\s*10)?"
_OPEN, _CLOSE = r"\[\[\s*(?:\*\*\s*)?", r"\s*(?:\*\*\s*)?\]\]"
# No two runs of spaces stand side by side in any pattern: a reply of nothing but spaces takes linear time.
SCORE = re.compile(rf"{_OPEN}{_NUMBER}{_OF_TEN}{_CLOSE}")
RATING_LINE = re.compile(
    r"^[ \t]*(?:[-*#]+[ \t]+)?(?:(?:\*\*|__)[ \t]*)?(?:(?:final|overall|my)[ \t]+)?(?:rating|score)[ \t]*"
    r"(?:(?:\*\*|__)[ \t]*)?:[ \t]*(?:(?:\*\*|__)[ \t]*)?"
    rf"(?:(\[)[ \t]*)?(?:\*\*)?{_NUMBER}(?:[ \t]*/[ \t]*10\b)?"
    r"(?![0-9]|\.[0-9]|[ \t]*[/%]|[ \t]*[-–,][ \t]*[0-9]|[ \t]+out[ \t]+of[ \t]+(?!10\b))",
    re.IGNORECASE | re.MULTILINE,
)
LABEL = re.compile(rf"{_OPEN}([ABC]){_CLOSE}")
FIVE_LEVELS = re.compile(rf"{_OPEN}(A\s*>>\s*B|A\s*>\s*B|A\s*=\s*B|B\s*>\s*A|B\s*>>\s*A){_CLOSE}")
TWO_SCORES = re.compile(rf"\[\[\s*{_NUMBER}{_OF_TEN}\s*,\s*{_NUMBER}{_OF_TEN}\s*\]\]")

FASTCHAT_SCORE = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
FASTCHAT_TWO_SCORES = (
    re.compile(r"\[\[(\d+\.?\d*),\s?(\d+\.?\d*)\]\]"),
    re.compile(r"\[(\d+\.?\d*),\s?(\d+\.?\d*)\]"),
)

_TAG_NAMES = ("think", "thinking", "thought", "reasoning")
_TAG = f"(?:{'|'.join(_TAG_NAMES)})"
OPENING_TAG = re.compile(rf"<({_TAG})>", re.IGNORECASE | re.ASCII)
OPEN_BLOCK = re.compile(rf"\s*<{_TAG}>", re.IGNORECASE)
CLOSING_TAG = re.compile(rf"</{_TAG}>", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What was found in a reply.

    `ambiguous` holds a value too, the last of several different ones; `unscored` holds none.
    `rule` names what found it, or why nothing did; `span` is where in the reply it stands.
    """

    status: Literal["ok", "ambiguous", "unscored"]
    rule: str
    span: tuple[int, int] | None
    score: float | None = None
    winner: Winner | None = None


def read_score(text: str, *, compat: bool = False) -> Verdict:
    """The score in a judge's reply to a `[[rating]]` prompt; never raises.

    Args:
        text: the reply, without the prompt.
        compat: by FastChat's rules: the first `[[n]]`, else the first `[n]` anywhere, whatever its size.

    Source:
        Zheng et al. 2023, arXiv:2306.05685, app. A; compat: `run_judge_single` of FastChat's llm_judge/common.py.
        Differs: where FastChat's reading of the number raises (`[[08]]`), the reply is unscored.
    """
    if compat:
        return _fastchat_score(text)
    visible, hidden = _without_reasoning(text)
    if not visible.strip():
        return _nothing_in(text)
    found = list(SCORE.finditer(visible))
    if found:
        return _chosen_score(found, 1, rule="last_double_bracket", doubts=SCORE.findall(hidden))
    start = _start_of_last_lines(visible, 3)
    lines = [match for match in RATING_LINE.finditer(visible, start) if _bracket_closes(visible, match)]
    if lines:
        return _chosen_score(lines, 2, rule="rating_line", doubts=[])
    return _nothing_in(text)


def read_winner(text: str, *, output_format: str = "[[A]]", compat: bool = False) -> Verdict:
    """The winner in a judge's reply to a pairwise prompt.

    Args:
        text: the reply, without the prompt.
        output_format: of the prompt: `[[A]]` (A, B, C for a tie), `[[A>>B]]` (five levels) or
            `[[rating_a,rating_b]]` (two scores, a tie within 0.1).
        compat: by FastChat's rules: `[[A]]` anywhere before `[[B]]` before `[[C]]`; the first pair of scores.

    Raises:
        DataError: the output format is none of these; a text never raises.

    Source:
        Zheng et al. 2023, arXiv:2306.05685, app. A; five levels: Li et al. 2024, arXiv:2406.11939;
        compat: `run_judge_pair` of FastChat's llm_judge/common.py.
    """
    if compat and output_format in ("[[A]]", "[[rating_a,rating_b]]"):
        return _fastchat_label(text) if output_format == "[[A]]" else _fastchat_two_scores(text)
    if compat or output_format not in ("[[A]]", "[[A>>B]]", "[[rating_a,rating_b]]"):
        raise DataError(
            f"output_format {output_format!r} cannot be read" + (" by FastChat's rules" if compat else ""),
            why="known are [[A]], [[rating_a,rating_b]]" + ("" if compat else " and [[A>>B]]"),
            fix="correct it in judge_prompts.jsonl",
        )
    visible, hidden = _without_reasoning(text)
    if output_format == "[[rating_a,rating_b]]":
        return _chosen_winner(text, visible, hidden, TWO_SCORES, _winner_of_scores, rule="last_two_scores")
    if output_format == "[[A>>B]]":
        return _chosen_winner(text, visible, hidden, FIVE_LEVELS, _winner_of_levels, rule="last_of_five_levels")
    return _chosen_winner(text, visible, hidden, LABEL, _winner_of_label, rule="last_label")


def verdict_text(verdict: Verdict) -> str:
    """The reply of a judge that writes none: text that both contracts read back as this verdict."""
    if verdict.score is not None:
        return f"Rating: [[{int(verdict.score) if verdict.score.is_integer() else verdict.score}]]"
    if verdict.winner is not None:
        return f"[[{'C' if verdict.winner == 'tie' else verdict.winner}]]"
    return ""


def without_closed_blocks(text: str) -> str:
    """The text with its whole reasoning blocks blanked, at the same length.

    In linear time: a tag that is not closed any more is looked for only once.
    """
    closings = {name: re.compile(f"</{name}>", re.IGNORECASE | re.ASCII) for name in _TAG_NAMES}
    pieces: list[str] = []
    unclosed: set[str] = set()
    end = 0
    for opening in OPENING_TAG.finditer(text):
        name = opening.group(1).lower()
        if opening.start() < end or name in unclosed:
            continue
        closing = closings[name].search(text, opening.end())
        if closing is None:
            unclosed.add(name)
            continue
        pieces += [text[end : opening.start()], _blank(text[opening.start() : closing.end()])]
        end = closing.end()
    return "".join([*pieces, text[end:]])


def _chosen_score(found: Sequence[re.Match[str]], group: int, *, rule: str, doubts: Sequence[str]) -> Verdict:
    last = found[-1]
    score = float(last.group(group))
    values = {float(match.group(group)) for match in found} | {float(value) for value in doubts}
    if not LOWEST_SCORE <= score <= HIGHEST_SCORE:
        return Verdict("unscored", "out_of_range", last.span())
    return Verdict("ambiguous" if len(values) > 1 else "ok", rule, last.span(), score=score)


def _chosen_winner(
    text: str,
    visible: str,
    hidden: str,
    pattern: re.Pattern[str],
    winner_of: Callable[[re.Match[str]], Winner | None],
    *,
    rule: str,
) -> Verdict:
    found = list(pattern.finditer(visible))
    if not found:
        return _nothing_in(text)
    last = found[-1]
    winner = winner_of(last)
    if winner is None:
        return Verdict("unscored", "out_of_range", last.span())
    labels = {re.sub(r"\s", "", "|".join(match.groups())) for match in (*found, *pattern.finditer(hidden))}
    return Verdict("ambiguous" if len(labels) > 1 else "ok", rule, last.span(), winner=winner)


def _winner_of_label(match: re.Match[str]) -> Winner | None:
    labels: dict[str, Winner] = {"A": "A", "B": "B", "C": "tie"}
    return labels[match.group(1)]


def _winner_of_levels(match: re.Match[str]) -> Winner | None:
    label = re.sub(r"\s", "", match.group(1))
    if "=" in label:
        return "tie"
    return "A" if label.startswith("A") else "B"


def _winner_of_scores(match: re.Match[str]) -> Winner | None:
    first, second = float(match.group(1)), float(match.group(2))
    if not all(LOWEST_SCORE <= score <= HIGHEST_SCORE for score in (first, second)):
        return None
    return _higher(first, second)


def _higher(first: float, second: float) -> Winner:
    if abs(first - second) <= TIE_DELTA:
        return "tie"
    return "A" if first > second else "B"


def _nothing_in(text: str) -> Verdict:
    """Why nothing was found."""
    stripped = text.strip()
    if not stripped:
        return Verdict("unscored", "empty", None)
    if stripped == API_ERROR_TEXT:
        return Verdict("unscored", "api_error_text", None)
    visible, _ = _without_reasoning(text)
    return Verdict("unscored", "no_verdict" if visible.strip() else "reasoning_only", None)


def _without_reasoning(text: str) -> tuple[str, str]:
    """The reply with its reasoning blanked, at the same length, and text that may be reasoning or not.

    A block that opens at the reply's start and never closes is all reasoning: the verdict was never written.
    A closing tag alone ends a block whose opening stood in the prompt, or was quoted from an answer: what stands
    before it gives no verdict but may put one in doubt.
    """
    visible = without_closed_blocks(text)
    if OPEN_BLOCK.match(visible):
        return _blank(visible), ""
    closing = CLOSING_TAG.search(visible)
    if closing is None:
        return visible, ""
    return _blank(visible[: closing.end()]) + visible[closing.end() :], visible[: closing.start()]


def _blank(text: str) -> str:
    return "\n".join(" " * len(line) for line in text.split("\n"))


def _start_of_last_lines(text: str, num_lines: int) -> int:
    """Where the last `num_lines` lines that are not blank begin."""
    starts = [match.start() for match in re.finditer(r"^.*\S.*$", text, re.MULTILINE)]
    return starts[-num_lines] if len(starts) >= num_lines else 0


def _bracket_closes(text: str, match: re.Match[str]) -> bool:
    """Whether a bracket that opens before the number closes right after it."""
    return not match.group(1) or re.match(r"(?:\*\*)?[ \t]*\]", text[match.end() :]) is not None


def _fastchat_score(text: str) -> Verdict:
    for pattern, rule in zip(FASTCHAT_SCORE, ("fastchat_first", "fastchat_backup"), strict=True):
        match = pattern.search(text)
        if match:
            score = _literal(match.group(1))
            if score is None:
                return Verdict("unscored", "fastchat_raises", match.span())
            return Verdict("ok", rule, match.span(), score=score)
    return Verdict("unscored", "fastchat_no_match", None)


def _fastchat_label(text: str) -> Verdict:
    labels: tuple[tuple[str, Winner], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    for label, winner in labels:
        start = text.find(label)
        if start >= 0:
            return Verdict("ok", "fastchat_substring", (start, start + len(label)), winner=winner)
    return Verdict("unscored", "fastchat_no_match", None)


def _fastchat_two_scores(text: str) -> Verdict:
    for pattern, rule in zip(FASTCHAT_TWO_SCORES, ("fastchat_first", "fastchat_backup"), strict=True):
        match = pattern.search(text)
        if match:
            first, second = _literal(match.group(1)), _literal(match.group(2))
            if first is None or second is None:
                return Verdict("unscored", "fastchat_raises", match.span())
            return Verdict("ok", rule, match.span(), winner=_higher(first, second))
    return Verdict("unscored", "fastchat_no_match", None)


def _literal(digits: str) -> float | None:
    """A number as Python would read it in a program, which FastChat does; None where that raises."""
    try:
        return float(ast.literal_eval(digits))
    except (SyntaxError, ValueError, OverflowError):
        return None
