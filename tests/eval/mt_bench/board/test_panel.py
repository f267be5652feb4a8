import pytest

from eval.mt_bench.board import Benchmark, BoardSettings
from eval.mt_bench.board.panel import score_agreement, winner_agreement
from eval.mt_bench.strict import key_verdicts
from eval.mt_bench.strict_pair import pair_verdicts


def test_a_judge_agrees_with_itself(benchmark: Benchmark, quick: BoardSettings):
    given = key_verdicts(benchmark.single["judge-one"])
    found, panel = score_agreement({"one": given, "other": given}, settings=quick)
    assert (found[0].share_equal, found[0].kappa, found[0].num_compared) == (1.0, 1.0, 88)
    assert found[0].difference is not None
    assert found[0].difference.mean == 0.0
    assert panel is not None
    assert (panel.alpha, panel.num_units) == (1.0, 88)


def test_winners_agree_by_share_and_beyond_chance(benchmark: Benchmark):
    given = pair_verdicts(benchmark.pair["judge-one"])
    found, panel = winner_agreement({"one": given, "other": given[:50]})
    decided = sum(verdict.winner is not None for verdict in given[:50])
    assert (found[0].num_compared, found[0].share_equal, found[0].kappa) == (decided, 1.0, 1.0)
    assert panel is not None
    assert panel.alpha == pytest.approx(1.0)


def test_one_judge_is_no_panel(benchmark: Benchmark, quick: BoardSettings):
    assert score_agreement({"one": key_verdicts(benchmark.single["judge-one"])}, settings=quick) == ([], None)
    assert winner_agreement({}) == ([], None)


def test_judges_of_different_answers_are_not_compared(benchmark: Benchmark, quick: BoardSettings):
    given = key_verdicts(benchmark.single["judge-one"])
    found, panel = score_agreement({"one": given[:10], "other": given[10:]}, settings=quick)
    assert found == []
    assert panel is None
