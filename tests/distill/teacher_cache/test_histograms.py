from pathlib import Path

import pytest
import torch

from distill.data import TokenizedPair
from distill.errors import CacheError
from distill.teacher_cache import TeacherCache, histograms, write_pair_ids
from distill.teacher_cache.histograms import delta_te, histogram, read_pair_ids
from tests.distill.teacher_cache.synthetic import ALL_TIERS, Synthetic, synthetic_cache

SCORES = ALL_TIERS[:1]


@pytest.fixture
def teacher(tmp_path) -> Synthetic:
    return synthetic_cache(tmp_path / "teacher")


def pairs_of(made: Synthetic) -> list[TokenizedPair]:
    rows = [planned.sequence for planned in made.sequences]
    return [TokenizedPair("a", rows[0], rows[3]), TokenizedPair("b", rows[4], rows[1])]


def test_a_histogram_counts_every_value_once():
    found = histogram(torch.tensor([0.0, 1.0, 1.0, 4.0]), num_bins=4)
    assert found.edges == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert found.counts == (1, 2, 0, 1)
    assert (found.num_values, found.mean, found.quantiles["50%"]) == (4, 1.5, 1.0)
    assert found.to_json()["counts"] == [1, 2, 0, 1]


def test_values_that_are_all_the_same_have_a_histogram():
    assert sum(histogram(torch.zeros(3)).counts) == 3


def test_values_that_differ_by_rounding_only_have_a_histogram():
    """Twenty bins between 0.3 and the next number would be narrower than numbers are apart."""
    assert sum(histogram(torch.tensor([0.1 + 0.2, 0.3], dtype=torch.float64)).counts) == 2


def test_a_file_without_pairs_is_refused(teacher, tmp_path):
    write_pair_ids(tmp_path / "pairs.jsonl", [])
    with pytest.raises(CacheError, match=r"pairs\.jsonl names no pairs"):
        histograms(teacher.folder, reference=teacher.folder, pair_ids=tmp_path / "pairs.jsonl")


def test_entropy_is_that_of_the_distributions(teacher):
    found = histograms(teacher.folder)
    assert list(found) == ["entropy_nats"]
    true = torch.cat([teacher.log_probs(number) for number in range(5)])
    assert found["entropy_nats"].num_values == 15
    assert found["entropy_nats"].mean == pytest.approx(float(-(true.exp() * true).sum(-1).mean()), rel=1e-5)


def test_entropy_is_taken_of_some_tokens_only(teacher):
    assert histograms(teacher.folder, max_tokens=6)["entropy_nats"].num_values < 12


def test_a_cache_of_scores_has_no_entropy(tmp_path):
    assert histograms(synthetic_cache(tmp_path / "c", tiers=SCORES).folder) == {}


def test_teacher_and_reference_alike_have_no_delta_te(teacher, tmp_path):
    reference = synthetic_cache(tmp_path / "reference", tiers=SCORES)
    own = reference.open()
    pairs = pairs_of(teacher)
    write_pair_ids(tmp_path / "pairs.jsonl", pairs)
    ids = read_pair_ids(tmp_path / "pairs.jsonl")
    assert ids == [(pair.chosen.sequence_id, pair.rejected.sequence_id) for pair in pairs]
    assert delta_te(teacher.open(), own, ids).tolist() == [0.0, 0.0]
    found = histograms(teacher.folder, reference=reference.folder, pair_ids=tmp_path / "pairs.jsonl")
    assert (found["delta_te_nats"].num_values, found["delta_te_nats"].mean) == (2, 0.0)


def test_delta_te_prefers_what_only_the_teacher_prefers(teacher, tmp_path):
    """The reference scores the same tokens by another head, built from the same ids: seed 0 with head doubled."""
    doubled = synthetic_cache(tmp_path / "reference", tiers=SCORES, head_scale=2.0)
    (first, second), *_ = pairs = [(p.chosen.sequence_id, p.rejected.sequence_id) for p in pairs_of(teacher)]
    cache, own = teacher.open(), doubled.open()

    def log_prob(made: TeacherCache, sequence_id: str) -> float:
        return float(made[sequence_id].token_log_probs().double().sum())

    expected = (log_prob(cache, first) - log_prob(own, first)) - (log_prob(cache, second) - log_prob(own, second))
    found = delta_te(cache, own, pairs)
    assert found[0].item() == pytest.approx(expected)
    assert abs(expected) > 0.1


def test_reference_and_pairs_go_together(teacher):
    with pytest.raises(CacheError, match="needs the reference's cache and the file of pairs"):
        histograms(teacher.folder, reference=teacher.folder)


@pytest.mark.parametrize("row", ["{}", '{"chosen": 1, "rejected": 2}', '{"chosen": "a"}'])
def test_a_row_without_two_ids_is_named(tmp_path: Path, row):
    (tmp_path / "pairs.jsonl").write_text(row + "\n")
    with pytest.raises(CacheError, match=r"pairs\.jsonl:1 does not name two sequences"):
        read_pair_ids(tmp_path / "pairs.jsonl")
