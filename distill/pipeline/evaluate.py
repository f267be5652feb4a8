"""Stage `evaluate`: the teacher, each student and each export answer the same held-out conversations."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from distill.data import read_conversations
from distill.decoding import Generator, TransformersGenerator, answer_conversations, answering
from distill.decoding.llama_cpp import LlamaCppGenerator
from distill.export import MERGED, read_artefact
from distill.files import fingerprint, fingerprint_of_folder, sha256_of_file
from distill.models import LoadedModel, count_parameters, folder_size_bytes, load_model
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stage_settings import EvaluateSettings
from distill.pipeline.teacher import load_teacher
from eval.measured import Examination, MeasuredModel, measure, measured, with_answers
from eval.mt_bench.questions import embedded_questions, write_questions
from eval.results import write_results
from eval.summary import result_table


@dataclass(frozen=True)
class Candidate:
    """A model of the result table."""

    name: str
    kind: Literal["teacher", "student", "export"]
    source: str | Path

    @property
    def slug(self) -> str:
        """A file name for its figures."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def run_evaluate(run: RunFolder) -> dict[str, object]:
    """Writes one file of figures a model and `results.json`."""
    settings = run.recipe.evaluate
    assert settings is not None
    teacher = load_teacher(run) if run.recipe.teacher is not None else None
    examination = _examination(run, settings, teacher)
    found = [_measured(run, candidate, examination, settings, teacher) for candidate in _candidates(run)]
    table = result_table(found, seed=run.recipe.seed, kl_to_student_nats=kl_to_student(run))
    write_results(run.stage("evaluate") / "results.json", table)
    return {"rows": [row.model for row in table.rows], "comparisons": [c.sentence() for c in table.comparisons]}


def _candidates(run: RunFolder) -> Iterator[Candidate]:
    recipe = run.recipe
    if recipe.teacher is not None:
        yield Candidate("teacher", "teacher", run.teacher_source)
    after = {"sft": "student after SFT", "dpo": "student after dDPO", "dadpo": "student after daDPO"}
    if recipe.sft is not None:
        name = "student after SFT" if recipe.teacher is not None else "teacher"
        yield Candidate(name, "student", run.stage("sft") / "model")
    if recipe.train is not None:
        objective = recipe.train.objective.name
        name = after.get(objective, f"student after {objective}")
        yield Candidate(name, "student", run.stage("train") / "model")
    if recipe.f_dpg is not None:
        for divergence in recipe.f_dpg.divergences:
            yield Candidate(f"student after f-DPG {divergence}", "student", run.stage("f_dpg") / divergence / "model")
    formats = recipe.export.formats if recipe.export is not None else ()
    for name in formats:
        if name == MERGED:
            continue  # the same weights as the student's row
        yield Candidate(name, "export", run.stage("export") / name)


def kl_to_student(run: RunFolder) -> dict[str, float]:
    """By format, the KL to the unquantized student in nats per token, as the export measured it on held-out chats."""
    formats = run.recipe.export.formats if run.recipe.export is not None else ()
    artefacts = [read_artefact(run.stage("export") / name) for name in formats]
    return {a.format: a.fidelity.kl_nats for a in artefacts if a.fidelity is not None}


def _examination(run: RunFolder, settings: EvaluateSettings, teacher: LoadedModel | None) -> Examination:
    test = read_conversations(run.conversations("test"))[: settings.num_conversations]
    questions = embedded_questions() if run.recipe.data.source == "embedded" else []
    if questions:
        write_questions(run.stage("evaluate") / "question.jsonl", questions)
    references = test[: settings.num_divergence_conversations]
    if teacher is not None:
        generator = TransformersGenerator(teacher)
        answers = answer_conversations(generator, references, settings.sampling, seed=run.recipe.seed)
        references = [with_answers(c, turns) for c, turns in zip(references, answers, strict=True)]
    return Examination(test, references, questions, settings.sampling, run.recipe.seed)


def _measured(
    run: RunFolder,
    candidate: Candidate,
    examination: Examination,
    settings: EvaluateSettings,
    teacher: LoadedModel | None,
) -> MeasuredModel:
    if candidate.kind == "export":
        examination = replace(examination, test=examination.test[: settings.num_export_conversations])
    path = run.stage("evaluate") / "models" / f"{candidate.slug}.json"
    key = fingerprint([examination.key, _identity(candidate.source), run.teacher_identity, run.recipe.student.dtype])
    if settings.linear_alignment is not None:
        key = fingerprint([key, settings.linear_alignment.model_dump(mode="json")])
    found = measured(path, key)
    if found is not None:
        return found
    gguf = _gguf_file(candidate.source)
    if candidate.kind == "teacher" and teacher is not None:
        loaded = teacher
    else:
        student = run.recipe.student
        loaded = load_model(gguf or candidate.source, dtype=student.dtype, device=student.device)

    def with_generator(generator: Generator) -> MeasuredModel:
        return measure(
            path,
            examination,
            key=key,
            name=candidate.name,
            kind=candidate.kind,
            generator=generator,
            loaded=loaded,
            teacher=teacher,
            num_parameters=None if candidate.kind == "export" else count_parameters(loaded.model),
            size_bytes=_size(candidate.source, gguf),
        )

    if gguf is None:
        return with_generator(answering(loaded, settings.linear_alignment))
    with LlamaCppGenerator(gguf) as generator:
        return with_generator(generator)


def _gguf_file(source: str | Path) -> Path | None:
    files = sorted(source.glob("*.gguf")) if isinstance(source, Path) and source.is_dir() else []
    return files[0] if files else None


def _size(source: str | Path, gguf: Path | None) -> int | None:
    if gguf is not None:
        return gguf.stat().st_size
    return folder_size_bytes(source) if isinstance(source, Path) else None


def _identity(source: str | Path) -> str:
    if not isinstance(source, Path):
        return source
    return fingerprint_of_folder(source) if source.is_dir() else sha256_of_file(source)
