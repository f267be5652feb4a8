"""The fate of every line of the source on its way to a pair: kept, or dropped for one counted reason; pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from distill.data import PreferencePair
from distill.data.splits import normalised
from distill.decoding import Generation
from distill.preference.answers import refusal
from distill.preference.screening import parsed_verdict
from distill.preference.source_texts import READING_REASONS, SourceLine, key_of
from distill.settings import Settings

REASONS = (
    *READING_REASONS,
    "unfinished_instruction",
    "empty_instruction",
    "long_instruction",
    "echo",
    "held_out",
    "duplicate_instruction",
    "unparsable",
    "not_provoking",
    "unfinished_answer",
    "empty_answer",
    "answer_is_text",
)
"""Why a line of the source gives no pair, in the order in which they are looked for."""

KEPT = "kept"
_TEMPLATE_MARKS = ("### instruction", "### response")


class InductionSettings(Settings):
    """What is kept of induced instructions, and what the output holds."""

    max_instruction_characters: int = Field(1000, gt=0, description="longer instructions are dropped")
    systems: tuple[str, ...] = Field(
        (), description="system messages before the instruction, one of them by the instruction's hash; (): none"
    )
    keep_rejected: bool = Field(
        True, description="write the texts as rejected answers; false: chosen answers alone, which are no pairs"
    )
    show_text: bool = Field(False, description="put texts into fates.jsonl; else hashes stand for them")
    rows_at_once: int = Field(64, gt=0, description="rows that are asked together and reach the disk together")


@dataclass(frozen=True)
class Fate:
    """What became of one line of the source."""

    line: SourceLine
    reason: str
    instruction: str | None = None
    answer: str | None = None

    def to_json(self, *, shows_text: bool) -> dict[str, object]:
        """Place, hashes and reason; texts only where they are asked for."""
        texts = {"text": self.line.text, "instruction": self.instruction, "answer": self.answer}
        hashes = {f"{name}_sha256": None if text is None else key_of(text) for name, text in texts.items()}
        told: dict[str, object] = {"line": self.line.where, "fate": self.reason, **hashes}
        told["text_sha256"] = self.line.key or None
        return {**told, **texts} if shows_text else told


@dataclass(frozen=True)
class SaferInstructReport:
    """The pairs, and the fate of every line; the counts of all fates sum to the number of lines."""

    pairs: tuple[PreferencePair, ...]
    fates: tuple[Fate, ...]

    def to_json(self) -> dict[str, object]:
        """Counts, the share of lines and of screened instructions that were kept."""
        counts = Counter(fate.reason for fate in self.fates)
        num_screened = sum(counts[reason] for reason in REASONS[REASONS.index("unparsable") :]) + counts[KEPT]
        return {
            "num_lines": len(self.fates),
            "num_pairs": len(self.pairs),
            "num_screened": num_screened,
            "kept_share_of_lines": counts[KEPT] / max(len(self.fates), 1),
            "kept_share_of_screened": counts[KEPT] / max(num_screened, 1),
            **{f"num_{reason}_dropped": counts[reason] for reason in REASONS},
        }


def sifted(
    lines: Sequence[SourceLine],
    induced: Mapping[str, Generation],
    *,
    settings: InductionSettings,
    held_out: Collection[str],
) -> list[Fate]:
    """Each line with its instruction, those dropped whose instruction is none, too long, known or held out."""
    seen: set[str] = set()
    fates = []
    for line in lines:
        if line.text is None or line.dropped is not None:
            fates.append(Fate(line, str(line.dropped)))
            continue
        reply = induced[line.key]
        instruction = reply.text.strip()
        plain = normalised(instruction)
        reason = _fault(reply, plain, line.text, settings=settings)
        if reason is None and plain in held_out:
            reason = "held_out"
        if reason is None and plain in seen:
            reason = "duplicate_instruction"
        if reason is None:
            seen.add(plain)
        fates.append(Fate(line, reason or KEPT, instruction))
    return fates


def _fault(reply: Generation, plain: str, text: str, *, settings: InductionSettings) -> str | None:
    """What is wrong with an induced instruction by itself."""
    if reply.finish_reason == "length":
        return "unfinished_instruction"
    if not plain:
        return "empty_instruction"
    if len(reply.text.strip()) > settings.max_instruction_characters:
        return "long_instruction"
    is_echo = plain == normalised(text) or any(mark in reply.text.casefold() for mark in _TEMPLATE_MARKS)
    return "echo" if is_echo else None


def screened(fate: Fate, verdicts: Mapping[str, Generation]) -> Fate:
    """The fate after the judge's replies, which stand under the hash of the instruction."""
    if fate.reason != KEPT:
        return fate
    is_provoking = parsed_verdict(verdicts[key_of(str(fate.instruction))].text)
    reason = "unparsable" if is_provoking is None else KEPT if is_provoking else "not_provoking"
    return replace(fate, reason=reason)


def answered(fate: Fate, answers: Mapping[str, Generation]) -> Fate:
    """The fate after the expert's answers, which stand under the hash of the instruction."""
    if fate.reason != KEPT:
        return fate
    reply = answers[key_of(str(fate.instruction))]
    reason = refusal(reply, keep_unfinished=False)
    if reason is not None:
        return replace(fate, reason=f"{reason}_answer", answer=reply.text)
    is_text = normalised(reply.text) == normalised(str(fate.line.text))
    return replace(fate, reason="answer_is_text" if is_text else KEPT, answer=reply.text)
