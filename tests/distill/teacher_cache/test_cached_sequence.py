import torch

from tests.distill.teacher_cache.synthetic import synthetic_cache


def test_one_sequence_answers_as_the_cache_does_for_it_alone(tmp_path):
    made = synthetic_cache(tmp_path / "c")
    cache, sequence_id = made.open(), made.ids[2]
    entry = cache[sequence_id]
    assert entry.sequence_id == sequence_id
    for read in ("completion_ids", "token_log_probs", "log_probs", "hidden_states"):
        torch.testing.assert_close(getattr(entry, read)(), getattr(cache, read)([sequence_id]), rtol=0, atol=0)
    torch.testing.assert_close(entry.top_k().log_probs, cache.top_k([sequence_id]).log_probs)
    torch.testing.assert_close(entry.samples().counts, cache.samples([sequence_id]).counts)
