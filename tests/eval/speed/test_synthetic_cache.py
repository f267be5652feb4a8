import pytest
import torch

from distill.data import TokenizedSequence
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import CODECS, TierSettings
from eval.speed import synthetic_cache as module
from eval.speed.synthetic_cache import synthetic_cache

SEQUENCES = [TokenizedSequence((number,), tuple(range(number + 1))) for number in range(9)]


@pytest.mark.parametrize("codec", CODECS)
def test_rows_repeat_and_every_codec_reads_back(codec: str, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BASE_TOKENS", 4)
    monkeypatch.setattr(module, "SHARD_TOKENS", 20)
    head = OutputHead(torch.randn(80, 8, generator=torch.Generator().manual_seed(0)))
    settings = TierSettings.model_validate({"codec": codec})
    cache = synthetic_cache(tmp_path, SEQUENCES, settings=settings, head=head)
    assert (len(cache), cache.manifest.num_tokens, cache.tiers) == (9, 45, (codec,))
    longest = SEQUENCES[-1].sequence_id
    rows = cache.records(codec, [longest]).split([4, 4, 1])
    assert torch.equal(rows[0].records, rows[1].records)
    assert torch.equal(cache[longest].completion_ids(), torch.arange(9))
