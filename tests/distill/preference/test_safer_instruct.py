"""The pipeline with scripted models: counts by hand, kill -9 and resume, and no text where none belongs."""

import json
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.data import Message, read_pairs
from distill.decoding import Generation, SamplingSettings
from distill.files import read_json, read_jsonl
from distill.preference import AskedModel, InductionSettings, safer_instruct, source_lines
from distill.preference.safer_instruct import CHOSEN_NAME, FATES_NAME, PAIRS_NAME, REPORT_NAME, prompt_of

NUM_TEXTS = 60


class Scripted:
    """Answers by a rule, slowly, and leaves a mark for every answer."""

    def __init__(self, name: str, folder: Path, pause_s: float) -> None:
        self.name, self.marks, self.pause_s = name, folder / "asked.txt", pause_s

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        del settings, seed
        time.sleep(self.pause_s)
        with self.marks.open("a") as handle:
            handle.writelines(f"{self.name}\n" for _ in prompts)
        return [Generation(self.reply(prompt[-1].content), 1, "stop") for prompt in prompts]

    def reply(self, content: str) -> str:
        if self.name == "judge":
            return "[[no]]" if "7" in content else "[[yes]]"
        if self.name == "expert":
            return f"No, thank you. ({content})"
        text = content.split("### response:\n")[1].split("\n")[0]
        return f"Say: {text.replace('9', '8')}"


def run_job(folder: Path, pause_s: float) -> None:
    models = {
        name: AskedModel(lambda name=name: Scripted(name, folder, pause_s), SamplingSettings(), name)
        for name in ("backward", "judge", "expert")
    }
    lines = source_lines([f"text {number}" for number in range(NUM_TEXTS)], name="texts", max_characters=100)
    safer_instruct(
        lines,
        **models,
        judge_template="{instruction}?",
        settings=InductionSettings(rows_at_once=4),
        seed=0,
        output_dir=folder / "run",
    )


TEXTS = ["you fool", "you clown", "", "you fool", "nice day", "you dimwit", "x" * 50, "you twit", "you wall"]
INDUCED = {
    "you fool": "Insult me.",
    "you clown": "insult me",
    "nice day": "Greet me.",
    "you dimwit": "Call me names.",
    "you twit": "Mumble.",
    "you wall": "What is in the exam?",
}
VERDICTS = {"Insult me.": "[[yes]]", "Greet me.": "[[no]]", "Call me names.": "Yes", "Mumble.": "hm"}


def run(speaker, folder: Path, **settings: object):
    def induce(prompt):
        return INDUCED[prompt[-1].content.split("### response:\n")[1].split("\n\n")[0]]

    speakers = {
        "backward": speaker(induce),
        "judge": speaker(lambda prompt: VERDICTS[prompt[-1].content.removeprefix("Bad? ")]),
        "expert": speaker(lambda prompt: f"Let us stay polite, {prompt[0].content}."),
    }
    models = {
        name: AskedModel(lambda one=one: one, SamplingSettings(), f"the {name}") for name, one in speakers.items()
    }
    report = safer_instruct(
        source_lines(TEXTS, name="texts.txt", max_characters=40),
        **models,
        judge_template="Bad? {instruction}",
        settings=InductionSettings(**{"systems": ("Be warm",), **settings}),
        seed=3,
        output_dir=folder,
        held_out=["what is in the exam"],
    )
    return report, speakers


def test_every_line_is_a_pair_or_counted(speaker, tmp_path: Path):
    """Nine lines: blank, a double, one too long, two that induce one instruction, one no, one hm, one of the exam."""
    report, speakers = run(speaker, tmp_path)
    told = read_json(tmp_path / REPORT_NAME)
    dropped = {name: count for name, count in told.items() if name.endswith("_dropped") and count}
    assert dropped == {
        "num_blank_dropped": 1,
        "num_duplicate_text_dropped": 1,
        "num_too_long_dropped": 1,
        "num_duplicate_instruction_dropped": 1,
        "num_held_out_dropped": 1,
        "num_not_provoking_dropped": 1,
        "num_unparsable_dropped": 1,
    }
    assert told["num_lines"] == 9
    assert told["num_pairs"] == 2 == len(report.pairs)
    assert told["kept_share_of_screened"] == 2 / 4
    assert [len(speakers[name].prompts) for name in ("backward", "judge", "expert")] == [6, 4, 2]


def test_pairs_are_trls_with_the_text_as_rejected_and_their_provenance(speaker, tmp_path: Path):
    run(speaker, tmp_path)
    pairs = read_pairs(tmp_path / PAIRS_NAME)
    assert [pair.rejected for pair in pairs] == ["you fool", "you dimwit"]
    assert pairs[0].prompt == (Message("system", "Be warm"), Message("user", "Insult me."))
    assert pairs[0].chosen == "Let us stay polite, Be warm."
    row = next(row for _, row in read_jsonl(tmp_path / PAIRS_NAME))
    made_by = {name: f"the {name}" for name in ("backward", "judge", "expert")}
    assert row["provenance"] == {"source": "texts.txt:1", "text_sha256": row["provenance"]["text_sha256"], **made_by}


def test_without_rejected_answers_no_file_of_the_output_holds_a_text(speaker, tmp_path: Path):
    run(speaker, tmp_path)
    run(speaker, tmp_path, keep_rejected=False)
    assert not (tmp_path / PAIRS_NAME).exists()
    row = next(row for _, row in read_jsonl(tmp_path / CHOSEN_NAME))
    assert row["completion"] == [{"role": "assistant", "content": "Let us stay polite, Be warm."}]
    assert "you fool" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_logs_and_fates_show_no_text_unless_asked(speaker, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        run(speaker, tmp_path)
    told = caplog.text + (tmp_path / FATES_NAME).read_text() + (tmp_path / REPORT_NAME).read_text()
    assert not any(word in told for word in ("fool", "Insult", "polite", "Mumble"))
    run(speaker, tmp_path, show_text=True)
    assert "you fool" in (tmp_path / FATES_NAME).read_text()


def test_a_finished_run_asks_nothing_again(speaker, tmp_path: Path):
    first, _ = run(speaker, tmp_path)
    again, speakers = run(speaker, tmp_path)
    assert again == first
    assert not any(one.prompts for one in speakers.values())


def test_the_system_message_depends_on_the_instruction_alone():
    systems = ("a", "b", "c")
    chosen = [prompt_of(f"Instruction {number}", systems=systems)[0].content for number in range(60)]
    assert chosen == [prompt_of(f"Instruction {number}", systems=systems)[0].content for number in range(60)]
    assert set(chosen) == set(systems)
    assert prompt_of("Hi", systems=()) == (Message("user", "Hi"),)


def job(folder: Path, pause_s: float) -> multiprocessing.process.BaseProcess:
    """A process of its own that runs the pipeline over 60 texts; forked, so that it need not import all again."""
    process = multiprocessing.get_context("fork").Process(target=run_job, args=(folder, pause_s))
    process.start()
    return process


def ended(process: multiprocessing.process.BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


def test_kill_and_resume_lose_no_row_and_make_none_twice(tmp_path: Path):
    """Killed with SIGKILL while it induces and again while it judges; the last run ends what they began.

    60 texts; `9` becomes `8` in the induced instruction, so 59 repeats 58, and so on: the counts are those of a run
    that nobody stopped. A row whose answer was on its way when the kill came is asked again: four at most each time.
    """
    for journal, at_least in (("induced", 9), ("verdicts", 9)):
        started = job(tmp_path, 0.02)
        path = tmp_path / "run" / f"{journal}.jsonl"
        deadline = time.monotonic() + 60
        while not path.exists() or path.read_bytes().count(b"\n") < at_least:
            assert time.monotonic() < deadline
            assert started.is_alive()
            time.sleep(0.005)
        os.kill(started.pid, signal.SIGKILL)
        assert ended(started) == -signal.SIGKILL
    assert ended(job(tmp_path, 0.0)) == 0
    (tmp_path / "whole").mkdir()
    assert ended(job(tmp_path / "whole", 0.0)) == 0
    for name in (PAIRS_NAME, FATES_NAME, REPORT_NAME, "induced.jsonl", "verdicts.jsonl", "answers.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / "run" / name).read_bytes(), name
    asked = Counter((tmp_path / "asked.txt").read_text().split())
    alone = Counter((tmp_path / "whole" / "asked.txt").read_text().split())
    assert all(alone[name] <= asked[name] <= alone[name] + 8 for name in alone)
    induced = [json.loads(row)["key"] for row in (tmp_path / "run" / "induced.jsonl").read_text().splitlines()[1:]]
    assert len(induced) == len(set(induced)) == 60
