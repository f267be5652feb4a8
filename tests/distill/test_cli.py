import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import distill.pipeline
from distill import __version__
from distill.errors import DistillError, GateError
from tests.distill.recipe_paths import paths_given

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
TEACHER = RECIPES / "embedded" / "teacher.yaml"
QWEN = RECIPES / "qwen2.5-7b-to-1.5b.yaml"
SMALL = ["data.num_teacher=2", "data.num_valid=1", "data.num_test=1"]


def _recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return path


def _raising(error: BaseException):
    def run_recipe(*_args: object, **_options: object) -> None:
        raise error

    return run_recipe


# What is asked for, and what comes back


def test_help_and_version_need_no_torch():
    code = (
        "import sys, distill.cli as cli; sys.argv = ['distill', sys.argv[1]]\n"
        "try: cli.main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy', 'pydantic', 'rich.console')))"
    )
    for word in ("--help", "--version"):
        assert subprocess.run([sys.executable, "-c", code, word], cwd=ROOT, check=False).returncode == 0


def test_the_version_is_the_packages(command):
    assert command("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("verb", ["run", *distill.pipeline.STAGES])
def test_every_verb_has_help(command, verb: str):
    code, out, _ = command(verb, "--help")
    assert code == 0
    assert f"Usage: distill {verb}" in out


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_has_a_plan(command, recipe: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    words = paths_given(recipe, tmp_path / "data")
    code, out, err = command("run", recipe, "--dry-run", "--json", f"output={tmp_path / 'run'}", *words)
    assert (code, err) == (0, "")
    assert {row["action"] for row in json.loads(out)} == {"run"}
    assert not (tmp_path / "run").exists()


def test_a_plan_is_a_table_or_json(command, tmp_path: Path):
    words = ["run", TEACHER, "--dry-run", f"output={tmp_path}"]
    assert "not made yet" in command(*words)[1]
    assert json.loads(command(*words, "--json")[1])[0] == {
        "stage": "prepare",
        "action": "run",
        "reason": "not made yet",
    }


def test_a_stage_alone_prints_its_summary(command, tmp_path: Path):
    code, out, _ = command("prepare", TEACHER, f"output={tmp_path / 'run'}", *SMALL, "--json")
    assert code == 0
    assert {"what": "num_teacher", "value": 2} in json.loads(out)
    assert (tmp_path / "run" / "prepare" / "teacher.jsonl").exists()


def test_a_run_that_ends_early_shows_no_older_results(command, tmp_path: Path):
    (tmp_path / "evaluate").mkdir()
    code, out, _ = command("run", TEACHER, "--until", "prepare", f"output={tmp_path}", *SMALL, "--json")
    assert code == 0
    assert json.loads(out) == [{"what": "output", "value": str(tmp_path)}]


@pytest.mark.parametrize("words", [["--local_rank=1"], ["--local-rank=0"], ["--local_rank", "1"]])
def test_what_launchers_add_is_left_out(command, words: list[str]):
    assert command(*words, "--version")[1] == f"{__version__}\n"


def test_only_the_main_process_of_a_launcher_prints(command, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("RANK", "1")
    assert command("run", TEACHER, "--dry-run", f"output={tmp_path}") == (0, "", "")


def test_the_word_after_a_verb_is_a_sub_verb_a_recipe_or_a_folder(command, tmp_path: Path):
    assert "is not a teacher cache" in command("cache", "inspect", tmp_path)[2]
    assert "is not a teacher cache" in command("cache", "verify", tmp_path)[2]
    assert "recipe cache.yaml does not exist" in command("cache", "cache.yaml")[2]
    assert "neither a recipe" in command("cache", tmp_path)[2]
    assert "holds no artefacts" in command("export", "verify", tmp_path)[2]
    assert "recipe export.yaml does not exist" in command("export", "export.yaml")[2]
    assert (
        "is not a model folder" in command("export", tmp_path, "--formats", "safetensors", "--out", tmp_path / "o")[2]
    )


# What is wrong with the request: exit code 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune"], "No such command 'tune'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", TEACHER, "--fast"], "No such option: --fast"),
        (["run", TEACHER, "--until", "tune"], "stage tune is not known\nfix: one of: prepare, sft"),
        (["run", TEACHER, "--force", "pairs"], "the recipe has no pairs section"),
        (["run", "nowhere.yaml"], "recipe nowhere.yaml does not exist\nfix: check the path"),
        (["run", "setup.cfg"], "recipe setup.cfg does not end in .yaml"),
        (["run", "x" * 300 + ".yaml"], "cannot be read: File name too long"),
        (["run", TEACHER, "sft"], "override 'sft' is not key.sub=value"),
        (["run", TEACHER, "sft.learning_rat=1"], "sft.learning_rat is not a known key (did you mean learning_rate?)"),
        (["run", TEACHER, "sft.learning_rate=fast"], "sft.learning_rate is 'fast'"),
        (["run", TEACHER, "studnt={}"], "studnt is not a known key (did you mean student?)"),
        (["run", TEACHER, "sft.deepspeed=nowhere.json"], "nowhere.json"),
        (["run", QWEN, "train.objective.name=dadp"], "train.objective.name is 'dadp'"),
        (["run", RECIPES / "smalltalk-teacher.yaml", "data.path=nowhere"], "data.path nowhere does not exist"),
        (["train", QWEN, "--nproc", "0"], "Invalid value for '--nproc'"),
        (["run", QWEN, "--nproc", "2", "train.learning_rat=1"], "did you mean learning_rate?"),
        (["prepare", QWEN, "--nproc", "2"], "No such option: --nproc"),
        (["cache", "verify"], "cache verify takes one folder, not 0\nfix: distill cache verify DIR"),
        (["export", "verify", "a", "b"], "export verify takes one folder, not 2"),
        (["export", "model"], "export of the model model needs --formats and --out"),
        (["export", "model", "--formats", "gguf-q8", "--out", "o"], "did you mean gguf-q8_0?"),
        (["export", "model", "--formats", ",", "--out", "o"], "formats"),
        (["export", TEACHER, "--formats", "gguf-f16"], "--formats and --out go with a model folder"),
        (["export", "./nowhere", "--formats", "gguf-f16", "--out", "o"], "model folder nowhere does not exist"),
    ],
)
def test_a_wrong_request_is_refused_with_what_and_fix(command, monkeypatch, tmp_path, words: list[object], said: str):
    monkeypatch.chdir(tmp_path)
    is_plan = words[0] == "run"
    code, out, err = command(*words, *(["--dry-run", f"output={tmp_path / 'run'}"] if is_plan and words[1:] else []))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert "\nfix: " in err
    assert not list(tmp_path.iterdir())


def test_distill_alone_shows_its_help(command):
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "Usage: distill" in err
    assert "error" not in err


def test_bad_yaml_is_named_by_file_and_line(command, tmp_path: Path):
    path = _recipe(tmp_path, "seed: 0\nsft: {\n")
    code, _, err = command("run", path)
    assert code == 2
    assert f"{path}:3 is not YAML" in err


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.abort []", "a: &a [*a]", "", "- a\n", "1: x\n", "\x00"])
def test_a_recipe_that_is_none_is_refused(command, tmp_path: Path, text: str):
    code, _, err = command("run", _recipe(tmp_path, text))
    assert code == 2
    assert err.startswith("error: ")


def test_a_folder_that_ends_like_a_recipe_is_refused(command, tmp_path: Path):
    (tmp_path / "own.yaml").mkdir()
    assert command("run", tmp_path / "own.yaml")[0] == 2


def test_a_model_with_pickled_weights_only_is_refused(command, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").touch()
    code, _, err = command("export", tmp_path / "model", "--formats", "safetensors", "--out", tmp_path / "out")
    assert code == 2
    assert "as pytorch_model.bin, a pickle\nwhy: a pickle runs code when it is read" in err
    assert not (tmp_path / "out").exists()


# What cannot be written, and what must not be deleted


def test_an_output_that_is_a_file_is_refused(command, tmp_path: Path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        code, _, err = command("run", TEACHER, f"output={output}", "--dry-run")
        assert code == 2
        assert f"{tmp_path / 'file'} is a file" in err


@pytest.mark.parametrize("verb", [["run"], ["run", "--dry-run"], ["run", "--force", "prepare"], ["prepare"]])
@pytest.mark.parametrize("file", ["prepare/thesis.tex", "sft/manifest.json", "recipe.yaml"])
def test_a_folder_that_is_no_runs_is_left_alone(command, tmp_path: Path, verb: list[str], file: str):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"name": "somebody\'s"}')
    code, _, err = command(*verb, TEACHER, f"output={tmp_path}", *SMALL)
    assert code == 2
    assert "output=DIR" in err
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_named(command, tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)
    code, _, err = command("prepare", TEACHER, f"output={tmp_path / 'closed' / 'run'}", *SMALL)
    assert code == 1
    assert "Permission denied" in err


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EACCES, "check who owns it"),
        (errno.EROFS, "check who owns it"),
        (errno.EIO, "disk"),
    ],
)
def test_what_the_system_refuses_is_told_plainly(command, monkeypatch, number: int, fix: str):
    error = OSError(number, os.strerror(number), "/some/file")
    monkeypatch.setattr(distill.pipeline, "run_recipe", _raising(error))
    code, out, err = command("run", TEACHER)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: /some/file: {os.strerror(number)}\nwhy: the operating system refused\nfix: ")
    assert fix in err


# How it ends


@pytest.mark.parametrize(
    ("error", "code"), [(DistillError("it broke", why="so", fix="do"), 1), (GateError("missed"), 3)]
)
def test_errors_say_what_why_and_fix_and_set_the_code(command, monkeypatch, error: DistillError, code: int):
    error.add_note("in stage export")
    monkeypatch.setattr(distill.pipeline, "run_recipe", _raising(error))
    assert command("run", TEACHER) == (code, "", f"error: {error}\nin stage export\n")


def test_ctrl_c_stops_with_a_plain_line(command, monkeypatch):
    monkeypatch.setattr(distill.pipeline, "run_recipe", _raising(KeyboardInterrupt()))
    assert command("run", TEACHER) == (130, "", "stopped; the same command goes on from here\n")


def test_sigterm_stops_with_a_plain_line_and_lets_go_of_the_signal(command, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def run_recipe(*_args: object, **_options: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(distill.pipeline, "run_recipe", run_recipe)
    assert command("run", TEACHER) == (143, "", "stopped; the same command goes on from here\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", [["--json"], []])
def test_output_that_nobody_reads_ends_the_command_without_a_word(words: list[str], tmp_path: Path):
    """Behind `| head -1` the reader may be gone before the command prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distill", "run", str(TEACHER), "--dry-run", f"output={tmp_path}", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stage_that_is_stopped_is_resumed(command, tmp_path: Path, number: signal.Signals, code: int):
    words = ["prepare", str(TEACHER), f"output={tmp_path}", "data.num_teacher=40000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "distill", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores SIGINT, and so do its children: these tests, and the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    manifest = tmp_path / "prepare" / "manifest.json"
    while not manifest.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert json.loads(command("run", TEACHER, "--dry-run", "--json", *words[2:])[1])[0]["action"] == "resume"
