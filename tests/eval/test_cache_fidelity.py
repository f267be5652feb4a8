import pytest

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.teacher_cache import CacheSettings, score_sequences
from eval.cache_fidelity import cache_fidelity

SEQUENCES = [TokenizedSequence((1, 2, 3), (4, 5, 6)), TokenizedSequence((7, 8), (9, 10))]


@pytest.fixture
def teacher(make_model):
    return make_model(0)


def _cache(teacher, folder, codec: str):
    settings = CacheSettings(codec=codec, max_length_tokens=16)
    return score_sequences(teacher, SEQUENCES, settings=settings, output_dir=folder, data_fingerprint="d")


def test_an_exact_cache_is_near_its_teacher_and_nearer_than_rounded_logits(teacher, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "exact"), teacher, SEQUENCES)
    assert (found.num_sequences, found.num_tokens) == (2, 5)
    assert found.max_score_difference_nats < 1e-4
    assert found.kl_nats < found.kl_of_rounded_logits_nats
    assert found.kl_nats <= found.max_kl_nats < 1e-2


def test_another_teacher_is_told_apart(teacher, make_model, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "exact"), make_model(1), SEQUENCES)
    assert found.kl_nats > 0.1
    assert found.max_score_difference_nats > 0.1


def test_scores_alone_have_no_distribution_to_compare(teacher, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "scores"), teacher, SEQUENCES)
    assert found.kl_nats is None
    assert found.max_score_difference_nats < 1e-4


def test_a_sequence_the_cache_lacks_is_refused(teacher, tmp_path):
    with pytest.raises(CacheError):
        cache_fidelity(_cache(teacher, tmp_path, "exact"), teacher, [TokenizedSequence((1,), (2,))])
