"""Stage `safer_instruct` on random weights: tuned models, pairs to train on, files, and what is refused."""

import os
from collections import Counter
from pathlib import Path

import pytest

from distill.data import read_pairs
from distill.errors import CacheError, RecipeError
from distill.files import read_json, write_jsonl
from distill.models import load_model
from distill.pipeline.cache_folder import fidelity_of
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from distill.pipeline.safer_instruct import examination, files_identity, requests_of, texts_of
from distill.pipeline.stages import inputs_of
from eval.harmlessness import exam_turns
from tests.endpoint_server import serving

TUNING = "{objective: {name: sft}, learning_rate: 1.0e-3, max_steps: 1, global_batch_size: 2, max_length_tokens: 512}"
WITHOUT = ("pairs=null", "export=null", "evaluate=null", "train.objective={name: dpo}", "cache.codec=scores")
MODELS = (
    f"safer_instruct={{texts: {{source: embedded, num_texts: 12}}, expert: {{sampling: {{max_new_tokens: 4}}}},"
    f" backward: {{model: {{path: STUDENT}}, tuning: {TUNING}, sampling: {{max_new_tokens: 4}}}},"
    f" judge: {{model: {{path: STUDENT}}, tuning: {TUNING}, requests: {{source: embedded, num_dialogues: 40}},"
    " sampling: {max_new_tokens: 4}}}"
)


class Replies:
    """What a server's models say: the backward model a request for every text, the judge yes, the expert no."""

    def __init__(self, server) -> None:
        self.server = server

    def __call__(self, reply: dict) -> dict:
        if "choices" not in reply:
            return reply
        content = self.server.requests[-1]["messages"][-1]["content"]
        said = "[[yes]]" if content.endswith("[[no]].") else "I would rather not."
        if content.endswith("### Instruction:"):
            said = f"Say this: {content.split('### response:')[1].split('### Instruction')[0].strip()}"
        reply["choices"][0] |= {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return reply


@pytest.fixture
def server(tiny_recipe: Path):
    with serving(load_model(tiny_recipe.parent / "student", device="cpu")) as running:
        running.changed = Replies(running)
        yield running


def served(server, texts: Path, **more: str) -> str:
    one = f"{{base_url: '{server.url}', model: tiny, max_concurrent: 1}}"
    extra = "".join(f", {name}: {value}" for name, value in more.items())
    asked = ", ".join(f"{name}: {{endpoint: {one}}}" for name in ("backward", "judge", "expert"))
    return f"safer_instruct={{texts: {{source: file, path: {texts}}}, {asked}{extra}}}"


def test_models_behind_a_server_make_pairs_that_the_student_trains_on(server, tiny_recipe: Path, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("you fool\nyou clown\nyou fool\n")
    overrides = [f"output={tmp_path / 'run'}", *WITHOUT, served(server, texts), "train.max_steps=1"]
    run = run_recipe(load_recipe(tiny_recipe, overrides), until="train")
    pairs = read_pairs(run.stage("safer_instruct") / "pairs.jsonl")
    assert run.pairs_files == {"safer_instruct": run.stage("safer_instruct") / "pairs.jsonl"}
    assert [(pair.prompt[0].content, pair.chosen, pair.rejected) for pair in pairs] == [
        (f"Say this: {text}", "I would rather not.", text) for text in ("you fool", "you clown")
    ]
    manifest = read_manifest(run.stage("train"))
    assert manifest is not None
    assert manifest.summary["num_pairs_by_stage"] == {"safer_instruct": 2}
    assert read_json(run.stage("safer_instruct") / "report.json")["num_duplicate_text_dropped"] == 1


def test_the_student_trains_on_ordinary_pairs_beside_those_of_the_texts(server, tiny_recipe: Path, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("you fool\nyou clown\n")
    overrides = [f"output={tmp_path / 'run'}", *WITHOUT[1:], served(server, texts), "train.max_steps=1"]
    run = run_recipe(load_recipe(tiny_recipe, overrides), until="train")
    manifest = read_manifest(run.stage("train"))
    assert manifest is not None
    assert manifest.summary["num_pairs_by_stage"] == {"pairs": 3, "safer_instruct": 2}
    reference = run.stage("cache") / "reference"
    assert fidelity_of(reference, num_sequences=10).num_sequences == 10
    (run.stage("safer_instruct") / "pairs.jsonl").unlink()
    with pytest.raises(CacheError, match="data_fingerprint is"):
        fidelity_of(reference, num_sequences=1)


@pytest.mark.slow
def test_backward_model_and_judge_are_tuned_first(tiny_recipe: Path, tmp_path: Path):
    """Random weights after one step: nothing they write can be read, and every line says why it gave no pair."""
    section = MODELS.replace("STUDENT", str(tiny_recipe.parent / "student"))
    overrides = [f"output={tmp_path}", *WITHOUT, section, "train=null", "cache=null", "data.num_teacher=3"]
    run = run_recipe(load_recipe(tiny_recipe, overrides), until="safer_instruct")
    folder = run.stage("safer_instruct")
    assert all((folder / name / "model" / "model.safetensors").exists() for name in ("backward", "judge"))
    told = read_json(folder / "report.json")
    dropped = sum(count for name, count in told.items() if name.endswith("_dropped"))
    assert dropped + told["num_pairs"] == told["num_lines"] == 12
    manifest = read_manifest(folder)
    assert manifest is not None
    assert 0 <= manifest.summary["judge_accuracy"] <= 1


def test_another_text_file_starts_the_stage_over(server, tiny_recipe: Path, tmp_path: Path):
    texts = tmp_path / "texts.txt"
    found = []
    for content in ("one\n", "one\ntwo\n"):
        texts.write_text(content)
        loaded = load_recipe(tiny_recipe, [*WITHOUT, served(server, texts)])
        found.append(inputs_of(RunFolder(loaded, tmp_path), "safer_instruct")["files"])
        assert files_identity(loaded.recipe, "safer_instruct") == found[-1]
    assert found[0] != found[1]


def test_prompts_of_the_examination_are_held_out_wherever_they_stand(server, tiny_recipe: Path, tmp_path: Path):
    for name in ("texts", "bad", "fine"):
        (tmp_path / f"{name}.txt").write_text(f"{name} one\n")
    files = f"{{provoking: {{path: {tmp_path}/bad.txt}}, ordinary: {{path: {tmp_path}/fine.txt}}}}"
    overrides = [f"output={tmp_path / 'run'}", *WITHOUT, served(server, tmp_path / "texts.txt")]
    run = run_recipe(load_recipe(tiny_recipe, [*overrides, f"harmlessness={{prompts: {files}}}"]), only="prepare")
    asked = examination(run)
    assert asked[-2:] == ["bad one", "fine one"]
    assert len(asked) > 2 + 4
    before = inputs_of(run, "safer_instruct")["files"]
    (tmp_path / "bad.txt").write_text("other\n")
    assert inputs_of(run, "safer_instruct")["files"] != before


def test_labelled_requests_of_a_file_are_divided_by_their_text(tiny_recipe: Path, tmp_path: Path):
    path = tmp_path / "labelled.jsonl"
    labels = ("fine", "bad")
    write_jsonl(path, ({"text": f"request {number}", "label": labels[number % 2]} for number in range(200)))
    file = f"{{source: file, path: {path}, provoking: [bad]}}"
    section = MODELS.replace("STUDENT", "embedded").replace("{source: embedded, num_dialogues: 40}", file)
    loaded = load_recipe(tiny_recipe, [*WITHOUT, section, "data.num_teacher=3"])
    learned, held_out = requests_of(RunFolder(loaded, tmp_path))
    assert len(learned) + len(held_out) == 200
    assert 10 <= len(held_out) <= 35
    assert all(label == (int(text.split()[1]) % 2 == 1) for text, label in (*learned, *held_out))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=null", "cache=null", "train=null"], "expert has no endpoint, and the recipe has no teacher"),
        (["safer_instruct.keep_rejected=false"], "train needs rejected answers"),
        ([], "data.num_teacher is 0, but safer_instruct.backward learns from them"),
        (["safer_instruct=null", "train=null", "harmlessness={}"], "there is no train section"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tiny_recipe: Path, overrides: list[str], message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny_recipe, [*WITHOUT, MODELS.replace("STUDENT", "embedded"), *overrides])


@pytest.mark.slow
@pytest.mark.skipif("DISTILL_TEST_DATA" not in os.environ, reason="DISTILL_TEST_DATA names no folder of public data")
def test_the_recipe_of_public_texts_reads_each_line_of_them():
    """24,783 tweets, of which 1,430 are labelled hate; XSTest's 200 unsafe prompts and 250 safe ones."""
    folder = Path(os.environ["DISTILL_TEST_DATA"])
    exam = "harmlessness.prompts"
    paths = {
        "data.path": folder / "hh-rlhf-harmless-test",
        "safer_instruct.texts.path": folder / "hate-speech-davidson" / "labeled_data.csv",
        f"{exam}.provoking.path": folder / "xstest" / "xstest_prompts.csv",
        f"{exam}.ordinary.path": folder / "xstest" / "xstest_prompts.csv",
    }
    recipe = Path(__file__).resolve().parents[3] / "recipes" / "safer_instruct-texts.yaml"
    loaded = load_recipe(recipe, [f"{name}={path}" for name, path in paths.items()])
    fates = Counter(line.dropped for line in texts_of(RunFolder(loaded, Path("absent"))))
    assert sum(fates.values()) == 24_783
    assert fates["not_taken"] == 24_783 - 1_430
    assert fates[None] > 1_350
    settings = loaded.recipe.harmlessness
    assert settings is not None
    kinds = Counter(turn.kind for turn in exam_turns(settings, []))
    assert kinds == {"xstest_prompts": 200, None: 250}
