import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.teacher_cache import TeacherCache, TierManifest, TierSettings, read_manifest
from distill.teacher_cache.manifest import tier_path, write_manifest
from tests.distill.teacher_cache.synthetic import ALL_TIERS, SHAPE, Synthetic, forged, own_copy, synthetic_cache

# Measured on other heads; what the codecs themselves promise is tested with them.
CLOSE = {"exact": 1e-5, "logits-bf16": 0.05, "exact-int8": 0.2}
SCORES = ALL_TIERS[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Synthetic:
    """A finished cache in every tier, not to be changed."""
    return synthetic_cache(tmp_path_factory.mktemp("cache") / "c")


@pytest.fixture(scope="module")
def cache(made: Synthetic) -> TeacherCache:
    return made.open()


def only(folder: Path, *codecs: str) -> TeacherCache:
    """A copy whose manifest lists some tiers only."""
    manifest = read_manifest(folder)
    tiers = tuple(tier for tier in manifest.tiers if tier.codec in codecs)
    write_manifest(folder, manifest.model_copy(update={"tiers": tiers}))
    return TeacherCache.open(folder)


def targets(made: Synthetic, number: int) -> torch.Tensor:
    return torch.tensor(made.sequences[number].sequence.completion_ids)


def true_token_log_probs(made: Synthetic, number: int) -> torch.Tensor:
    return made.log_probs(number).gather(-1, targets(made, number)[:, None])[:, 0]


def test_a_cache_knows_what_it_holds(cache, made):
    assert cache.tiers == ("scores", "exact", "exact-int8", "logits-bf16", "top-k", "sampled")
    assert cache.sequence_ids == made.ids
    assert len(cache) == 5
    assert all(sequence_id in cache for sequence_id in made.ids)
    assert "0" * 64 not in cache
    assert 7 not in cache
    assert cache.lengths([made.ids[4], made.ids[0]]).tolist() == [5, 3]
    assert cache.num_tokens(made.ids[2]) == 4


@pytest.mark.parametrize("number", range(5))
def test_a_sequence_gets_its_own_tokens_scores_and_distributions(cache, made, number):
    entry = cache[made.ids[number]]
    assert entry.completion_ids().tolist() == targets(made, number).tolist()
    torch.testing.assert_close(entry.token_log_probs(), true_token_log_probs(made, number))
    torch.testing.assert_close(entry.log_probs(), made.log_probs(number))
    torch.testing.assert_close(entry.hidden_states(), made.hidden_states[number])
    values, token_ids = made.log_probs(number).topk(6)
    assert entry.top_k().token_ids.tolist() == token_ids.tolist()
    torch.testing.assert_close(entry.top_k().log_probs, values, rtol=1e-3, atol=1e-3)
    tail = 1 - values.exp().sum(-1)
    torch.testing.assert_close(entry.top_k().tail_mass, tail, rtol=0, atol=1e-6)
    samples = entry.samples()
    assert len(samples.row_offsets) == made.sequences[number].num_tokens + 1
    assert int(samples.counts.sum()) == 9 * made.sequences[number].num_tokens


def test_several_sequences_come_end_to_end_in_the_order_asked(cache, made):
    ids = [made.ids[number] for number in (4, 0, 4, 2)]
    parts = [cache[sequence_id] for sequence_id in ids]
    for read in ("completion_ids", "token_log_probs", "log_probs", "hidden_states"):
        expected = torch.cat([getattr(part, read)() for part in parts])
        torch.testing.assert_close(getattr(cache, read)(ids), expected)
    torch.testing.assert_close(cache.top_k(ids).token_ids, torch.cat([part.top_k().token_ids for part in parts]))
    torch.testing.assert_close(cache.samples(ids).token_ids, torch.cat([part.samples().token_ids for part in parts]))
    sums = torch.stack([part.token_log_probs().double().sum() for part in parts])
    torch.testing.assert_close(cache.sequence_log_probs(ids), sums)
    assert cache.records("scores", ids).num_tokens == 5 + 3 + 5 + 4
    assert len(cache.token_log_probs([])) == len(cache.sequence_log_probs([])) == 0


@pytest.mark.parametrize("max_log_probs", [1, 2 * SHAPE.vocab_size, 10**6])
def test_blocks_are_the_same_distributions_in_pieces(cache, made, max_log_probs):
    blocks = list(cache.log_probs_in_blocks(made.ids, max_log_probs=max_log_probs))
    torch.testing.assert_close(torch.cat(blocks), cache.log_probs(made.ids))
    assert max(map(len, blocks)) <= max(1, max_log_probs // SHAPE.vocab_size)


@pytest.mark.parametrize(
    ("codecs", "answers"),
    [
        (("logits-bf16", "exact-int8", "exact"), "exact"),
        (("exact-int8", "logits-bf16"), "logits-bf16"),
        (("exact-int8",), "exact-int8"),
    ],
)
def test_the_most_exact_tier_answers(made, tmp_path, codecs, answers):
    cache = only(own_copy(made.folder, tmp_path / "c"), *codecs)
    own = only(own_copy(made.folder, tmp_path / "own"), answers)
    for number, sequence_id in enumerate(made.ids):
        torch.testing.assert_close(cache[sequence_id].log_probs(), own[sequence_id].log_probs(), rtol=0, atol=0)
        found = cache[sequence_id].token_log_probs()
        torch.testing.assert_close(found, own[sequence_id].token_log_probs(), rtol=0, atol=0)
        torch.testing.assert_close(found, true_token_log_probs(made, number), rtol=0, atol=CLOSE[answers])


@pytest.mark.parametrize(
    ("has", "ask", "needs", "fix"),
    [
        ("scores", lambda cache, ids: cache.log_probs(ids), "exact or logits-bf16 or exact-int8", "[scores,exact]"),
        ("scores", lambda cache, ids: next(cache.log_probs_in_blocks(ids)), "exact or logits-bf16", "[scores,exact]"),
        ("scores", lambda cache, ids: cache[ids[0]].hidden_states(), "exact or exact-int8", "[scores,exact]"),
        ("scores", lambda cache, ids: cache.records("top-k", ids), "top-k", "[scores,top-k]"),
        ("top-k", lambda cache, ids: cache.token_log_probs(ids), "scores or exact or logits-bf16", "[top-k,scores]"),
        ("top-k", lambda cache, ids: cache.samples(ids), "sampled", "[top-k,sampled]"),
        ("sampled", lambda cache, ids: cache.top_k(ids), "top-k", "[sampled,top-k]"),
        ("scores", lambda cache, _: cache.require_tier("exact", by="objective kd"), "exact", "[scores,exact]"),
    ],
)
def test_what_a_cache_cannot_tell_names_the_command_that_adds_it(made, tmp_path, has, ask, needs, fix):
    cache = only(own_copy(made.folder, tmp_path / "c"), has)
    with pytest.raises(CacheError, match=f"needs tier {needs}.* of teacher cache .*, which has {has}") as caught:
        ask(cache, made.ids)
    assert caught.value.fix == f"distill cache RECIPE cache.codec={fix}"


def test_the_first_tier_that_will_do_is_named(cache):
    assert cache.require_tier("exact", "scores", by="x") == "exact"
    assert cache.codec("top-k").settings.k == 6


def test_a_cache_without_a_head_has_none(tmp_path):
    made = synthetic_cache(tmp_path / "c", tiers=[SCORES])
    manifest = read_manifest(made.folder)
    write_manifest(made.folder, manifest.model_copy(update={"head_sha256": None}))
    cache = made.open()
    assert len(cache.token_log_probs(made.ids)) == 15
    with pytest.raises(CacheError, match="the output head needs tier exact or exact-int8"):
        _ = cache.head


def test_a_missing_sequence_is_refused_and_counted(cache, made):
    cache.require_sequences(made.ids)
    with pytest.raises(CacheError, match=r"2 of 7 sequences are not in teacher cache .* the first is 000000000000"):
        cache.require_sequences([*made.ids, "0" * 64, "1" * 64, "0" * 64])
    for ask in (lambda: cache["f" * 64], lambda: cache.num_tokens("f" * 64), lambda: cache.log_probs(["f" * 64])):
        with pytest.raises(CacheError, match="1 of 1 sequences are not in") as caught:
            ask()
        assert "distill cache RECIPE" in caught.value.fix


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher_fingerprint", "another revision"),
        ("tokenizer_fingerprint", "another tokenizer"),
        ("template_hash", "another template"),
        ("max_length_tokens", 17),
        ("data_fingerprint", "other data"),
    ],
)
def test_a_cache_made_from_something_else_is_refused_by_field(cache, field, value):
    cache.require(teacher_fingerprint="teacher", template_hash="template")
    with pytest.raises(CacheError, match=f"{field} is .*, but {value!r} is asked for"):
        cache.require(**{field: value})


def test_a_cache_without_a_finished_tier_does_not_open(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    manifest = read_manifest(folder)
    begun = (TierManifest(settings=TierSettings(codec="exact")),)
    write_manifest(folder, manifest.model_copy(update={"tiers": begun}))
    with pytest.raises(CacheError, match=r"is not finished: no tier is complete \(begun: exact\)"):
        TeacherCache.open(folder)


def test_a_tier_under_way_is_no_tier(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    manifest = read_manifest(folder).with_tier(
        TierManifest(settings=TierSettings(codec="exact", hidden_dtype="float32"))
    )
    write_manifest(folder, manifest)
    cache = TeacherCache.open(folder)
    assert "exact" not in cache.tiers
    torch.testing.assert_close(cache.log_probs(made.ids), only(folder, "logits-bf16").log_probs(made.ids))


def test_a_manifest_that_contradicts_itself_does_not_open(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"num_tokens": 1}))
    with pytest.raises(CacheError, match="totals are not the sums"):
        TeacherCache.open(folder)


def test_a_cache_that_was_moved_opens(made, tmp_path):
    moved = own_copy(made.folder, tmp_path / "elsewhere" / "d")
    torch.testing.assert_close(TeacherCache.open(str(moved)).log_probs(made.ids), made.open().log_probs(made.ids))


def test_shards_are_opened_when_they_are_first_needed(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    tier_path(folder, "exact", 1).unlink()
    cache = TeacherCache.open(folder)
    assert len(cache.hidden_states(made.ids[:3])) == 8
    with pytest.raises(CacheError, match=r"exact/00001\.safetensors .* the file is missing"):
        cache.hidden_states(made.ids)


def test_a_removed_cache_can_be_read_on_where_it_is_mapped(made, tmp_path):
    folder = own_copy(made.folder, tmp_path / "c")
    cache = TeacherCache.open(folder)
    before = cache.hidden_states(made.ids)
    shutil.rmtree(folder)
    torch.testing.assert_close(cache.hidden_states(made.ids), before)


def test_numbers_that_are_not_finite_are_never_handed_out_and_their_file_is_named(made, tmp_path):
    """Without the check at opening, what is decoded is looked at."""
    folder = own_copy(made.folder, tmp_path / "c")
    for codec in ("scores", "exact", "logits-bf16", "top-k"):
        path = tier_path(folder, codec, 0)
        path.write_bytes(path.read_bytes()[:-4] + b"\xff" * 4)
        forged(folder, path)
    cache = TeacherCache.open(folder, checks_checksums=False)
    reads = {"token_log_probs": "scores", "hidden_states": "exact", "log_probs": "exact", "top_k": "top-k"}
    for read, codec in reads.items():
        with pytest.raises(CacheError, match=rf"{codec}/00000\.safetensors .* are no {codec}: "):
            getattr(cache, read)(made.ids)
        getattr(cache, read)(made.ids[3:])
    with pytest.raises(CacheError, match=r"exact/00000\.safetensors .* are no exact: "):
        list(cache.log_probs_in_blocks(made.ids))
    with pytest.raises(CacheError, match=r"scores/00000\.safetensors .* are no scores"):
        TeacherCache.open(folder).token_log_probs(made.ids)


def test_states_that_the_head_makes_too_large_are_refused(tmp_path):
    """Every stored number is finite; 1e38 times a head of 1e3 is not."""
    made = synthetic_cache(tmp_path / "c", tiers=[tier for tier in ALL_TIERS if tier.codec == "exact"], head_scale=1e3)
    path = tier_path(made.folder, "exact", 0)
    path.write_bytes(path.read_bytes()[:-32] + torch.full((8,), 1e38).numpy().tobytes())
    forged(made.folder, path)
    for read in ("token_log_probs", "log_probs"):
        with pytest.raises(CacheError, match=f"tier exact of .* gives {read} that are not finite") as caught:
            getattr(made.open(), read)(made.ids)
        assert "their product with the output head is not" in caught.value.why


def _sum_of_log_probs(folder: str) -> float:
    cache = TeacherCache.open(folder)
    return float(cache.token_log_probs(cache.sequence_ids).double().sum())


@pytest.mark.slow
def test_many_processes_read_one_cache_at_a_time(made):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.map(_sum_of_log_probs, [str(made.folder)] * 6)
    assert set(sums) == {_sum_of_log_probs(str(made.folder))}
