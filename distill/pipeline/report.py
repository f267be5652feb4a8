"""Stage `report`: one HTML page of the run, and its JSON twin."""

from distill.data import Conversation, read_conversations
from distill.embedded import CATEGORIES
from distill.files import read_json
from distill.pipeline.manifest import library_versions, now, read_manifest
from distill.pipeline.run_folder import RunFolder
from distill.progress import read_metrics
from distill.settings import validated
from eval.measured import MeasuredModel
from eval.report import FidelityRow, RunReport, Sample, SampleAnswer, SampleTurn, StageRow, write_report
from eval.results import read_results

SHOWN_STAGES = ("prepare", "sft", "pairs", "cache", "train", "export", "evaluate")


def run_report(run: RunFolder) -> dict[str, object]:
    """Writes `report.html` and `report.json` from what the earlier stages left."""
    path = run.stage("report") / "report.html"
    results = run.stage("evaluate") / "results.json"
    report = RunReport(
        title=f"Run of {run.loaded.path.name}",
        description=run.recipe.description,
        created=now(),
        recipe=run.recipe.model_dump(mode="json", exclude_none=True),
        versions=library_versions(),
        stages=tuple(_stage_rows(run)),
        curves={name: tuple(read_metrics(run.stage(name) / "metrics.jsonl")) for name in ("sft", "train")},
        table=read_results(results) if results.exists() else None,
        fidelity=tuple(_fidelity(run)),
        samples=tuple(_samples(run)),
        accuracy_by_category=_by_category(run),
    )
    write_report(path, report)
    return {"path": str(path)}


def _stage_rows(run: RunFolder) -> list[StageRow]:
    rows = []
    for name in SHOWN_STAGES:
        manifest = read_manifest(run.stage(name))
        if manifest is not None:
            row = StageRow(name=name, status=manifest.status, elapsed_s=manifest.elapsed_s, summary=manifest.summary)
            rows.append(row)
    return rows


def _fidelity(run: RunFolder) -> list[FidelityRow]:
    path = run.stage("export") / "report.json"
    if not path.exists():
        return []
    artefacts = read_json(path)["artefacts"]
    assert isinstance(artefacts, list)
    return [
        FidelityRow(
            format=row["format"],
            size_bytes=row["size_bytes"],
            kl_nats=row["kl_nats"],
            same_top_token=row["same_top_token"],
            smoke=row["smoke"],
        )
        for row in artefacts
    ]


def measured_models(run: RunFolder) -> list[MeasuredModel]:
    """The figures of every model that stage `evaluate` measured, teacher and students first."""
    folder = run.stage("evaluate") / "models"
    models = [validated(MeasuredModel, read_json(path), source=str(path)) for path in sorted(folder.glob("*.json"))]
    return sorted(models, key=lambda model: ("teacher", "student", "export").index(model.kind))


def _samples(run: RunFolder) -> list[Sample]:
    """The first test conversations with the answers of teacher and students side by side."""
    if run.recipe.evaluate is None:
        return []
    models = [model for model in measured_models(run) if model.kind != "export"]
    test = read_conversations(run.conversations("test"))[: run.recipe.evaluate.num_samples_shown]
    return [
        Sample(
            name=conversation.id,
            system=None if conversation.system is None else conversation.system.content,
            turns=tuple(_sample_turn(conversation, models, index, turn) for turn in range(len(conversation.user_turns))),
        )
        for index, conversation in enumerate(test)
    ]


def _sample_turn(conversation: Conversation, models: list[MeasuredModel], index: int, turn: int) -> SampleTurn:
    references = [message.content for message in conversation.messages if message.role == "assistant"]
    answers = []
    for model in models:
        test = model.sets["test"]
        checked = not test.num_unchecked
        answers.append(
            SampleAnswer(
                model=model.name,
                text=test.answers[index][turn],
                is_right=test.right[index][turn] if checked else None,
                reasons=test.reasons[index][turn] if checked else (),
            )
        )
    return SampleTurn(
        prompt=conversation.user_turns[turn].content,
        reference=references[turn] if turn < len(references) else None,
        answers=tuple(answers),
    )


def _by_category(run: RunFolder) -> dict[str, dict[str, float]]:
    """Accuracy by category on the two-turn questions, where the run has them."""
    shares: dict[str, dict[str, float]] = {}
    for model in measured_models(run):
        answered = model.sets.get("questions")
        if answered is None or len(answered.right) % len(CATEGORIES):
            continue
        per_category = len(answered.right) // len(CATEGORIES)
        for position, category in enumerate(CATEGORIES):
            turns = [t for row in answered.right[position * per_category : (position + 1) * per_category] for t in row]
            shares.setdefault(category, {})[model.name] = sum(turns) / len(turns)
    return shares


