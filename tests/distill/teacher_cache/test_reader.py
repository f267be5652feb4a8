import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.models import LoadedModel, ScratchSettings, new_model
from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache import TeacherCache, score_sequences, tokenizer_fingerprint

MAX_KL_NATS = 1e-5


@pytest.fixture(scope="module")
def folder(teacher, sequences, tmp_path_factory) -> Path:
    """A finished `exact` cache, not to be changed."""
    from distill.teacher_cache import CacheSettings

    path = tmp_path_factory.mktemp("cache") / "c"
    settings = CacheSettings(shard_tokens=12, max_batch_tokens=24)
    score_sequences(teacher, sequences, settings=settings, output_dir=path, data_fingerprint="data")
    return path


@pytest.fixture
def cache(folder: Path) -> TeacherCache:
    return TeacherCache.open(folder)


def own_copy(folder: Path, target: Path) -> Path:
    """A copy that a test may damage."""
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(folder)).write_bytes(path.read_bytes())
    return target


def reference(model, row) -> torch.Tensor:
    """The model's distributions at the completion, from its own forward, one sequence at a time."""
    with torch.no_grad():
        logits = model(torch.tensor([row.prompt_ids + row.completion_ids])).logits
    return log_softmax(logits[0, len(row.prompt_ids) - 1 : -1])


def mean_kl_nats(cache: TeacherCache, model, sequences) -> float:
    kls = []
    for row in sequences:
        expected = reference(model, row)
        found = cache[row.sequence_id].log_probs()
        assert found.dtype == torch.float32
        kls.append((expected.exp() * (expected - found)).sum(-1))
    return float(torch.cat(kls).mean())


@pytest.mark.parametrize("norm_scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("hidden_dtype", ["bfloat16", "float32"])
def test_exact_distributions_are_the_models_own(sequences, teacher, small_shards, tmp_path, norm_scale, hidden_dtype):
    """From near uniform (scale 1, 5.6 nats of entropy) to nearly sure (scale 20, 0.3 nats)."""
    scratch = ScratchSettings(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    model = new_model(scratch, teacher.tokenizer, seed=3)
    model.model.norm.weight.data.fill_(norm_scale)
    loaded = LoadedModel(model, teacher.tokenizer, "scaled", "scaled")
    settings = small_shards(hidden_dtype=hidden_dtype)
    cache = score_sequences(loaded, sequences, settings=settings, output_dir=tmp_path / "c", data_fingerprint="d")
    bound = MAX_KL_NATS if hidden_dtype == "bfloat16" else 1e-9
    assert abs(mean_kl_nats(cache, model, sequences)) < bound + 1e-7


def test_token_log_probs_are_those_of_the_unrounded_model(cache, teacher, sequences):
    for row in sequences:
        targets = torch.tensor(row.completion_ids)
        expected = reference(teacher.model, row).gather(-1, targets[:, None])[:, 0]
        found = cache[row.sequence_id].token_log_probs()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert cache[row.sequence_id].completion_ids().tolist() == list(row.completion_ids)


def test_scale_soft_cap_and_bias_of_the_head_reach_the_distributions(tmp_path, cache, folder):
    copy = own_copy(folder, tmp_path / "c")
    head = OutputHead(torch.randn(280, 32), torch.randn(280), 0.5, 3.0)
    from distill.teacher_cache.head_file import write_head

    write_head(copy / "head.safetensors", head)
    content = json.loads((copy / "manifest.json").read_text())
    content["head_sha256"] = sha256_of_file(copy / "head.safetensors")
    (copy / "manifest.json").write_text(json.dumps(content))
    other = TeacherCache.open(copy)
    ids = cache.sequence_ids[:2]
    expected = log_softmax(head.logits(cache.hidden_states(ids)))
    torch.testing.assert_close(other.log_probs(ids), expected, rtol=0, atol=0)


def test_several_sequences_read_end_to_end_in_the_order_asked(cache):
    ids = [cache.sequence_ids[index] for index in (7, 0, 7, 3)]
    parts = [cache[sequence_id] for sequence_id in ids]
    torch.testing.assert_close(cache.hidden_states(ids), torch.cat([part.hidden_states() for part in parts]))
    torch.testing.assert_close(cache.token_log_probs(ids), torch.cat([part.token_log_probs() for part in parts]))
    assert sum(cache.num_tokens(sequence_id) for sequence_id in ids) == len(cache.token_log_probs(ids))
    assert cache.hidden_states(ids).dtype == torch.bfloat16


def test_a_cache_knows_what_it_holds(cache, sequences):
    assert len(cache) == len(sequences) == len(cache.sequence_ids)
    assert all(row.sequence_id in cache for row in sequences)
    assert "0" * 64 not in cache


def test_a_missing_sequence_is_refused_and_counted(cache, sequences):
    known = [row.sequence_id for row in sequences]
    cache.require_sequences(known)
    with pytest.raises(CacheError, match=r"2 of 14 sequences are not in teacher cache .* the first is 000000000000"):
        cache.require_sequences([*known, "0" * 64, "1" * 64, "0" * 64])
    with pytest.raises(CacheError, match="1 of 1 sequences are not in") as caught:
        cache["f" * 64]
    assert "distill cache RECIPE" in caught.value.fix
    with pytest.raises(CacheError, match="1 of 1 sequences are not in"):
        cache.num_tokens("f" * 64)


def test_require_compares_with_the_manifest(cache, teacher):
    cache.require(
        teacher_fingerprint=teacher.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(teacher.tokenizer),
        max_length_tokens=512,
    )
    with pytest.raises(CacheError, match=r"template_hash is '.*', but 'other' is asked for"):
        cache.require(template_hash="other")


def test_scores_have_no_distributions_and_say_how_to_get_them(teacher, sequences, small_shards, tmp_path):
    cache = score_sequences(
        teacher, sequences, settings=small_shards(codec="scores"), output_dir=tmp_path / "c", data_fingerprint="d"
    )
    entry = cache[sequences[0].sequence_id]
    assert len(entry.token_log_probs()) == len(sequences[0].completion_ids)
    for ask in (entry.log_probs, entry.hidden_states, lambda: cache.head):
        with pytest.raises(CacheError, match="has codec scores") as caught:
            ask()
        assert "distill cache RECIPE cache.codec=exact" in caught.value.fix
    assert not (tmp_path / "c" / "head.safetensors").exists()


def test_shards_open_when_they_are_first_needed(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    (copy / "shards" / "00002.safetensors").unlink()
    cache = TeacherCache.open(copy)
    with pytest.raises(CacheError, match=r"shards/00002\.safetensors .* the file is missing"):
        _ = cache.sequence_ids


def test_a_changed_byte_is_found_by_its_checksum(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    path = copy / "shards" / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CacheError, match=r"shards/00001\.safetensors .* its checksum is not the manifest's"):
        _ = TeacherCache.open(copy).sequence_ids
    assert TeacherCache.open(copy, checks_checksums=False).sequence_ids


def test_a_changed_head_is_found_by_its_checksum(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    path = copy / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CacheError, match=r"head\.safetensors .* its checksum is not the manifest's"):
        _ = TeacherCache.open(copy).head


@pytest.mark.parametrize("checks_checksums", [True, False])
def test_a_shard_that_is_cut_off_is_named(folder, tmp_path, checks_checksums):
    copy = own_copy(folder, tmp_path / "c")
    path = copy / "shards" / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"shards/00001\.safetensors .* bytes, not"):
        _ = TeacherCache.open(copy, checks_checksums=checks_checksums).sequence_ids


def replaced(copy: Path, name: str, *, source: str, keeps_counts: bool) -> None:
    """Puts another shard in a shard's place, checksum and size included, its counts only if asked."""
    (copy / "shards" / name).write_bytes((copy / "shards" / source).read_bytes())
    content = json.loads((copy / "manifest.json").read_text())
    records = {record["name"]: record for record in content["shards"]}
    own, other = records[name], records[source]
    own |= {"sha256": other["sha256"], "size_bytes": other["size_bytes"]}
    if not keeps_counts:
        for key in ("num_sequences", "num_tokens"):
            content[key] += other[key] - own[key]
            own[key] = other[key]
    (copy / "manifest.json").write_text(json.dumps(content))


def test_a_shard_that_stands_twice_is_refused(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    replaced(copy, "00001.safetensors", source="00000.safetensors", keeps_counts=False)
    with pytest.raises(CacheError, match=r"00001\.safetensors .* stands in another shard too"):
        _ = TeacherCache.open(copy).sequence_ids


def test_a_shard_with_other_counts_than_its_record_is_refused(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    path = copy / "shards" / "00001.safetensors"
    tensors = load(path.read_bytes())
    offsets = tensors["offsets"].tolist()
    tensors = {"ids": tensors["ids"][:-1], "offsets": tensors["offsets"][:-1]} | {
        name: tensors[name][: offsets[-2]] for name in ("completion_ids", "token_log_probs", "hidden_states")
    }
    header = {"distill": json.dumps({"format": "distill-teacher-shard", "version": 1})}
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=header)
    content = json.loads((copy / "manifest.json").read_text())
    content["shards"][1] |= {"sha256": sha256_of_file(path), "size_bytes": path.stat().st_size}
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CacheError, match=r"00001\.safetensors .* it holds \d+ sequences and \d+ tokens, not"):
        _ = TeacherCache.open(copy).sequence_ids


def test_a_manifest_that_contradicts_itself_is_refused(folder, tmp_path):
    copy = own_copy(folder, tmp_path / "c")
    content = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(content | {"num_tokens": 1}))
    with pytest.raises(CacheError, match="totals are not the sums"):
        TeacherCache.open(copy)
