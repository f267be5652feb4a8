import json
from dataclasses import replace

import pytest

from eval.speed import train, train_trl
from eval.speed.train import PARTS, measure
from eval.speed.train_rounds import GROUPS, LOSS_TOLERANCE, Clocking
from eval.speed.train_work import WORKS

CLOCKING = Clocking(num_steps=1, num_repeats=1, num_threads=1)
NUM_PROBE_TOKENS = 8


def test_without_trl_a_note_says_so(monkeypatch):
    monkeypatch.setattr(train_trl, "is_installed", lambda: False)
    figures = measure(WORKS["tiny"], parts=(), groups=(), clocking=CLOCKING)
    assert "TRL is not installed" in figures.notes[0]
    assert (figures.steps, figures.jobs, figures.reruns) == ((), (), ())


def test_the_command_writes_its_figures_and_how_to_have_them_again(tmp_path, capsys, monkeypatch):
    figures = measure(WORKS["tiny"], parts=(), groups=(), clocking=CLOCKING)
    monkeypatch.setattr(train, "measure", lambda *arguments, **named: figures)
    chosen = ["--work", "tiny", "--steps", "2", "--threads", "1", "--fixed"]
    train.main([*chosen, "--json", str(tmp_path / "train.json")])
    assert json.loads(capsys.readouterr().out)["format"] == "train-speed"
    written = json.loads((tmp_path / "train.json").read_text())
    assert written["command"] == (
        "python -m eval.speed.train --work tiny --pairs 8 --steps 2 --repeats 5 --job-repeats 3 --threads 1 --fixed"
    )
    assert "torch" in written["versions"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_part_runs_against_trl_at_the_same_losses():
    """What a second job of ours still reads are the few tokens by which each model's head is recognised."""
    pytest.importorskip("trl")
    work = replace(WORKS["tiny"], num_pairs=2)
    figures = measure(work, parts=PARTS, groups=GROUPS, clocking=CLOCKING, is_fixed=True)
    assert [(row.group, row.origin) for row in figures.steps] == [
        (group, origin) for group in GROUPS for origin in ("peer", "ours", "ours")
    ]
    assert figures.largest_loss_difference is not None
    assert figures.largest_loss_difference <= LOSS_TOLERANCE
    assert all(row.tokens_per_s.low > 0 and row.step_bytes > 0 for row in figures.steps)
    peer, *ours = figures.jobs
    assert all(peer.teacher_tokens > 3 * row.teacher_tokens > 0 for row in ours)
    gkd = next(row for row in figures.reruns if row.name == peer.name)
    assert gkd.second_frozen_tokens == gkd.first_frozen_tokens > 0
    again = [row for row in figures.reruns if row.origin == "ours"]
    assert len(again) == 3
    assert all(row.first_frozen_tokens > 2 * NUM_PROBE_TOKENS >= row.second_frozen_tokens for row in again)
    assert all(f"| {row.name} |" in figures.to_markdown() for row in (*figures.steps, *figures.jobs, *figures.reruns))
