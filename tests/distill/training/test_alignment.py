from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.models.world import World
from distill.objectives import OutputHead
from distill.teacher_cache import CacheSettings, TeacherCache, score_sequences
from distill.training.alignment import require_aligned, target_log_probs
from distill.training.cached_scores import OwnTokens, cached_scores
from distill.training.feed import Feed
from distill.training.teacher_rows import teacher_rows
from tests.distill.training.examples import new_student, pairs, settings, tokenizer

PAIRS = pairs(12)
SEQUENCES = [sequence for pair in PAIRS for sequence in (pair.chosen, pair.rejected)]
TIERS = ["exact", "exact-int8", "logits-bf16", "top-k"]
ALONE = World(0, 1, 0)


def scored(folder: Path, *codecs: object) -> TeacherCache:
    """By a teacher that is sure of itself, so that one token's distribution is not like another's."""
    teacher = new_student(1)
    with torch.no_grad():
        next(teacher.model.parameters()).mul_(40.0)
    choice = CacheSettings.model_validate({"codec": list(codecs), "max_length_tokens": 64})
    return score_sequences(teacher, SEQUENCES, settings=choice, output_dir=folder, data_fingerprint="pairs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aligned")
    scored(path, "scores", "exact", "exact-int8", "logits-bf16", {"codec": "top-k", "k": 270}, "sampled")
    return path


def shift_rows(path: Path, *, num_tokens: int, row_bytes: int) -> None:
    """Moves every row of a shard's only tensor, which ends the file, to the token after its own."""
    content = bytearray(path.read_bytes())
    start = len(content) - num_tokens * row_bytes
    content[start:] = content[-row_bytes:] + content[start:-row_bytes]
    path.write_bytes(bytes(content))


def check(folder: Path, tier: str, **changes: object) -> None:
    cache = TeacherCache.open(folder, checks_checksums=False)
    chosen = settings(objective={"name": "kd", "divergence": "forward_kl", "tier": tier})
    scores = cached_scores(
        PAIRS,
        chosen,
        teacher_cache=cache,
        reference_cache=None,
        student_vocab_size=cache.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    feed = Feed(PAIRS, chosen, pad_id=0, seed=0, world=ALONE, scores=replace(scores, **changes))  # type: ignore[arg-type]
    head = None if scores.head is None else replace(scores.head, weight=scores.head.weight.float())
    require_aligned(feed, step=0, head=head)


@pytest.mark.parametrize("tier", [*TIERS, "sampled"])
def test_sound_rows_of_every_tier_pass(folder: Path, tier: str):
    check(folder, tier)


@pytest.mark.parametrize("tier", TIERS)
def test_rows_that_are_shifted_by_one_token_are_refused(folder: Path, tmp_path: Path, tier: str):
    cache = scored(tmp_path, "scores", {"codec": tier, **({"k": 270} if tier == "top-k" else {})})
    width = cache.codec(tier).row_bytes  # type: ignore[arg-type]
    assert width is not None
    shift_rows(tmp_path / tier / "00000.safetensors", num_tokens=cache.manifest.num_tokens, row_bytes=width)
    with pytest.raises(
        CacheError,
        match=rf"is misaligned in the (chosen|rejected) answer of pair 0-\d+ \(sequence [0-9a-f]{{64}}\): "
        rf"at token \d+ tier {tier} gives -?[0-9.]+ and tier scores -[0-9.]+ nats",
    ) as caught:
        check(tmp_path, tier)
    assert "shifted by one" in caught.value.why


def test_a_teacher_of_another_tokenizer_is_held_against_its_own_tokens(folder: Path, tmp_path: Path):
    """The student's sequences are named otherwise; the teacher's rows are read by its own."""
    own = OwnTokens(
        {sequence.sequence_id: sequence.sequence_id for sequence in SEQUENCES},
        {sequence.sequence_id: 1 for sequence in SEQUENCES},
        {sequence.sequence_id: len(sequence.completion_ids) for sequence in SEQUENCES},
    )
    check(folder, "exact", own_tokens=own)
    cache = scored(tmp_path, "scores", "exact")
    shift_rows(tmp_path / "exact" / "00000.safetensors", num_tokens=cache.manifest.num_tokens, row_bytes=32)
    with pytest.raises(CacheError, match="is misaligned"):
        check(tmp_path, "exact", own_tokens=own)


def test_a_tier_that_stands_alone_has_nothing_to_be_held_against(tmp_path: Path):
    cache = scored(tmp_path, "exact")
    shift_rows(tmp_path / "exact" / "00000.safetensors", num_tokens=cache.manifest.num_tokens, row_bytes=32)
    check(tmp_path, "exact")


def test_a_list_does_not_tell_the_log_prob_of_a_token_that_it_lacks(tmp_path: Path):
    cache = scored(tmp_path, "scores", {"codec": "top-k", "k": 100})
    ids = [sequence.sequence_id for sequence in SEQUENCES]
    found = target_log_probs(teacher_rows(cache, "top-k", ids), cache.completion_ids(ids).long(), head=None)
    is_told = found.isfinite()
    assert 0 < int(is_told.sum()) < len(found)
    torch.testing.assert_close(found[is_told], cache.token_log_probs(ids)[is_told], rtol=2**-10, atol=1e-3)


def test_the_head_that_is_given_is_the_one_that_reads(folder: Path):
    cache = TeacherCache.open(folder)
    ids = [SEQUENCES[0].sequence_id]
    head = OutputHead(torch.zeros_like(cache.head.weight), None)
    found = target_log_probs(teacher_rows(cache, "exact", ids), cache.completion_ids(ids).long(), head=head)
    torch.testing.assert_close(found, torch.full_like(found, cache.manifest.vocab_size).log().neg())
