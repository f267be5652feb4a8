"""Safer-Instruct: from unlabelled harmful texts to preference pairs, with no annotator.

text -> induced instruction (backward model) -> kept where provoking (judge) -> safe answer (expert) = chosen, the
text itself = rejected. Every step appends its rows to a journal as they are made; the pairs and the fate of every
line of the source are derived from the journals and written whole. Nothing that is logged or raised quotes a text.

Source:
    Shi et al. 2024, arXiv:2311.08685; README and img/pipeline.png of uscnlp-lime/safer-instruct (30073fd).
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data import Message, PreferencePair
from distill.data.splits import normalised
from distill.decoding import Generation, Generator, SamplingSettings
from distill.files import fingerprint, write_json, write_jsonl
from distill.preference.blocks import derived_seed, in_blocks
from distill.preference.instruction_fates import (
    KEPT,
    Fate,
    InductionSettings,
    SaferInstructReport,
    answered,
    screened,
    sifted,
)
from distill.preference.reversed_instructions import TEMPLATE, reversed_prompt
from distill.preference.row_journal import RowJournal
from distill.preference.screening import judge_prompt
from distill.preference.source_texts import SourceLine, key_of
from distill.progress import tracked

log = logging.getLogger(__name__)

PAIRS_NAME, CHOSEN_NAME, FATES_NAME, REPORT_NAME = "pairs.jsonl", "chosen.jsonl", "fates.jsonl", "report.json"


@dataclass(frozen=True)
class AskedModel:
    """A model of the pipeline: what answers, how, and what it is called in every row that it made.

    It is opened when there is something to ask, and let go after, so that one model is in memory at a time.
    """

    open: Callable[[], Generator]
    sampling: SamplingSettings
    name: str


def safer_instruct(
    lines: Sequence[SourceLine],
    *,
    backward: AskedModel,
    judge: AskedModel,
    expert: AskedModel,
    judge_template: str,
    settings: InductionSettings,
    seed: int,
    output_dir: Path,
    held_out: Sequence[str] = (),
) -> SaferInstructReport:
    """Runs the pipeline, or goes on with it: rows that stand in the journals are not made again.

    Args:
        lines: of the source, as `read_texts` gives them.
        backward: writes the instruction that a text answers; tuned on `reversed_conversations`.
        judge: says whether an instruction provokes harm.
        expert: answers it safely.
        judge_template: what the judge is asked, with `{instruction}` in it.
        settings: limits and output.
        seed: of the draws.
        output_dir: receives `induced.jsonl`, `verdicts.jsonl`, `answers.jsonl`, then `pairs.jsonl`, `fates.jsonl`
            and, last, `report.json`.
        held_out: instructions that no pair may hold, but for case and punctuation: those of the examination.

    Raises:
        DataError: a journal is damaged.
    """
    texts = {line.key: line.text for line in lines if line.text is not None and line.dropped is None}
    ask = _Asking(settings, seed, output_dir)
    induced = ask("induced", backward, {key: reversed_prompt(text) for key, text in texts.items()}, template=TEMPLATE)
    fates = sifted(lines, induced, settings=settings, held_out={normalised(text) for text in held_out})
    wanted = {key_of(fate.instruction): fate.instruction for fate in fates if fate.reason == KEPT and fate.instruction}
    questions = {key: judge_prompt(text, template=judge_template) for key, text in wanted.items()}
    verdicts = ask("verdicts", judge, questions, template=judge_template)
    fates = [screened(fate, verdicts) for fate in fates]
    provoking = [fate.instruction for fate in fates if fate.reason == KEPT and fate.instruction]
    prompts = {key_of(text): prompt_of(text, systems=settings.systems) for text in provoking}
    answers = ask("answers", expert, prompts, template="")
    fates = [answered(fate, answers) for fate in fates]
    made_by = {"backward": backward.name, "judge": judge.name, "expert": expert.name}
    report = SaferInstructReport(
        tuple(_pair(fate, settings.systems) for fate in fates if fate.reason == KEPT), tuple(fates)
    )
    _write(report, settings=settings, made_by=made_by, output_dir=output_dir)
    return report


def prompt_of(instruction: str, *, systems: Sequence[str]) -> tuple[Message, ...]:
    """The instruction, after the system message that its hash chooses."""
    asked = Message("user", instruction)
    if not systems:
        return (asked,)
    return (Message("system", systems[int(key_of(instruction)[:8], 16) % len(systems)]), asked)


@dataclass(frozen=True)
class _Asking:
    """Asks a model what its journal does not hold yet."""

    settings: InductionSettings
    seed: int
    folder: Path

    def __call__(
        self, name: str, model: AskedModel, prompts: Mapping[str, Sequence[Message]], *, template: str
    ) -> Mapping[str, Generation]:
        sampling = model.sampling.model_dump(mode="json", exclude={"batch_size"})
        systems = list(self.settings.systems)
        made_of = fingerprint([name, model.name, sampling, template, systems, self.seed])
        journal = RowJournal(self.folder / f"{name}.jsonl", made_of=made_of)
        open_keys = [key for key in prompts if key not in journal]
        if len(open_keys) < len(prompts):
            log.info("%s: %d of %d rows stood from an earlier run", name, len(prompts) - len(open_keys), len(prompts))
        with tracked(f"safer-instruct, {name}", len(prompts)) as progress:
            progress.advance(len(prompts) - len(open_keys))
            generator = model.open() if open_keys else None
            for keys in in_blocks(open_keys, size=self.settings.rows_at_once):
                assert generator is not None
                replies = generator.generate(
                    [prompts[key] for key in keys], model.sampling, seed=derived_seed(self.seed, name)
                )
                journal.append([(key, _row(reply)) for key, reply in zip(keys, replies, strict=True)])
                progress.advance(len(keys))
        return {key: _generation(journal.rows[key]) for key in prompts}


def _pair(fate: Fate, systems: Sequence[str]) -> PreferencePair:
    assert fate.instruction is not None
    assert fate.answer is not None
    assert fate.line.text is not None
    prompt = prompt_of(fate.instruction, systems=systems)
    return PreferencePair(f"si-{fate.line.key[:16]}", prompt, fate.answer, fate.line.text)


def _write(
    report: SaferInstructReport, *, settings: InductionSettings, made_by: Mapping[str, str], output_dir: Path
) -> None:
    """The derived files, each whole; of an output without rejected answers no older one with them is left."""
    kept = [fate for fate in report.fates if fate.reason == KEPT]
    rows: list[dict[str, object]] = []
    for pair, fate in zip(report.pairs, kept, strict=True):
        row = pair.to_json()
        if not settings.keep_rejected:
            row = {"id": row["id"], "prompt": row["prompt"], "completion": row["chosen"]}
        rows.append({**row, "provenance": {"source": fate.line.where, "text_sha256": fate.line.key, **made_by}})
    written, other = (PAIRS_NAME, CHOSEN_NAME) if settings.keep_rejected else (CHOSEN_NAME, PAIRS_NAME)
    (output_dir / other).unlink(missing_ok=True)
    write_jsonl(output_dir / written, rows)
    write_jsonl(output_dir / FATES_NAME, (fate.to_json(shows_text=settings.show_text) for fate in report.fates))
    write_json(output_dir / REPORT_NAME, report.to_json())
    told = {reason: count for reason, count in Counter(fate.reason for fate in report.fates).items() if reason != KEPT}
    log.info("%d pairs of %d lines; dropped: %s", len(report.pairs), len(report.fates), told or "none")


def _row(reply: Generation) -> dict[str, object]:
    return {"reply": reply.text, "num_tokens": reply.num_tokens, "finish_reason": reply.finish_reason}


def _generation(row: Mapping[str, object]) -> Generation:
    return Generation(
        str(row["reply"]), int(str(row["num_tokens"])), "stop" if row["finish_reason"] == "stop" else "length"
    )
