import json

import torch

from distill.files import read_json
from distill.models import load_model
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import HeadShape
from eval.scored_tokens import ScoredTokens
from eval.speed import rate_distortion
from eval.speed.candidates import Candidate, candidates_for
from eval.speed.figures import RateDistortion
from eval.speed.rate_distortion import held_out_answers, measure, notes, rounding_kl_nats


def _tokens() -> tuple[ScoredTokens, OutputHead]:
    torch.manual_seed(0)
    states = torch.randn(40, 8)
    tokens = ScoredTokens(states, torch.zeros(40, dtype=torch.int64), ("a", "b", "c"), (20, 15, 5))
    return tokens, OutputHead(torch.randn(150, 8))


def test_what_is_stored_whole_is_at_no_distance():
    tokens, head = _tokens()
    whole = Candidate("whole", "ours", lambda block: (4 * block.log_probs.numel(), block.log_probs))
    (point,) = measure("T", tokens, head, candidates=[whole]).points
    assert point.bytes_per_token == 600
    assert point.kl_nats == point.gradient_angle_degrees == 0.0
    assert point.top_1_agreement == 1.0


def test_blocks_of_sequences_tell_the_same_as_all_at_once(monkeypatch):
    tokens, head = _tokens()
    candidates = candidates_for(None, shape=HeadShape(150, 8))
    once = measure("T", tokens, head, candidates=candidates)
    monkeypatch.setattr(rate_distortion, "BLOCK_TOKENS", 10)
    blocks = measure("T", tokens, head, candidates=candidates)
    for first, second in zip(once.points, blocks.points, strict=True):
        assert first.bytes_per_token == second.bytes_per_token
        torch.testing.assert_close(
            torch.tensor(first.total_variation), torch.tensor(second.total_variation), rtol=1e-4, atol=1e-6
        )


def test_rounding_costs_a_float32_teacher_something_and_a_bfloat16_one_nothing():
    tokens, head = _tokens()
    assert 0.0 < rounding_kl_nats(tokens.hidden_states, head) < 1e-3
    assert rounding_kl_nats(tokens.hidden_states.bfloat16().float(), head) == 0.0


def test_the_notes_say_when_the_peer_is_missing():
    assert any("DistillKit was not installed" in note for note in notes(None))


def test_held_out_answers_have_the_tokens_asked_for():
    loaded = load_model("embedded")
    found = held_out_answers(loaded, num_tokens=30)
    counts = [len(sequence.completion_ids) for sequence in found]
    assert sum(counts) >= 30 > sum(counts[:-1])


def test_the_command_prints_one_line_and_writes_its_origin(tmp_path, monkeypatch, capsys):
    tokens, head = _tokens()
    rates = measure("T", tokens, head, candidates=candidates_for(None, shape=HeadShape(150, 8))[:2])
    monkeypatch.setattr(rate_distortion, "_embedded_rates", lambda *_: rates)
    monkeypatch.setattr(rate_distortion, "_wide_rates", lambda *_: [rates])
    monkeypatch.setattr(rate_distortion, "find_distillkit", lambda folder: None)
    folder = ["--distillkit", str(tmp_path)]
    rate_distortion.main(["--tokens", "8", *folder, "--json", str(tmp_path / "rates.json")])
    (line,) = capsys.readouterr().out.splitlines()
    assert RateDistortion.model_validate(json.loads(line)).teachers == (rates, rates)
    written = read_json(tmp_path / "rates.json")
    assert written["command"] == "python -m eval.speed.rate_distortion --tokens 8 --distillkit FOLDER"
