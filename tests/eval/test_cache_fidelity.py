import pytest

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.teacher_cache import CacheSettings, score_sequences
from eval.cache_fidelity import CacheFidelity, TierFidelity, cache_fidelity

SEQUENCES = [TokenizedSequence((1, 2, 3), (4, 5, 6)), TokenizedSequence((7, 8), (9, 10))]


@pytest.fixture
def teacher(make_model):
    return make_model(0)


def _cache(teacher, folder, *codecs: str):
    settings = CacheSettings(codec=codecs, max_length_tokens=16)
    return score_sequences(teacher, SEQUENCES, settings=settings, output_dir=folder, data_fingerprint="d")


def _tier(found: CacheFidelity, codec: str) -> TierFidelity:
    return next(tier for tier in found.tiers if tier.codec == codec)


def test_an_exact_cache_is_near_its_teacher_and_nearer_than_rounded_logits(teacher, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "exact"), teacher, SEQUENCES)
    tier = _tier(found, "exact")
    assert (found.num_sequences, found.num_tokens) == (2, 5)
    assert tier.max_score_difference_nats < 0.2
    assert tier.kl_nats < found.kl_of_rounded_logits_nats
    assert tier.kl_nats <= tier.max_kl_nats < 1e-2
    assert tier.top_1_agreement == 1.0
    assert tier.total_variation < 0.02


def test_another_teacher_is_told_apart(teacher, make_model, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "exact", "scores"), make_model(1), SEQUENCES)
    assert _tier(found, "exact").kl_nats > 0.1
    assert _tier(found, "scores").max_score_difference_nats > 0.1


def test_each_tier_says_what_it_can_tell(teacher, tmp_path):
    found = cache_fidelity(_cache(teacher, tmp_path, "scores", "top-k", "sampled"), teacher, SEQUENCES)
    scores, lists, draws = (_tier(found, codec) for codec in ("scores", "top-k", "sampled"))
    assert scores.kl_nats is None
    assert scores.top_1_agreement is None
    assert scores.max_score_difference_nats < 1e-4
    assert lists.max_score_difference_nats is None
    assert lists.total_variation < 0.2  # 64 of 280 tokens are listed
    assert draws.kl_nats is None  # tokens that were not drawn
    assert 0.0 < draws.total_variation < 1.0


def test_a_sequence_the_cache_lacks_is_refused(teacher, tmp_path):
    with pytest.raises(CacheError):
        cache_fidelity(_cache(teacher, tmp_path, "exact"), teacher, [TokenizedSequence((1,), (2,))])
