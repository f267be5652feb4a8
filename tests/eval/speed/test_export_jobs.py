from pathlib import Path

import pytest

from distill.embedded import teacher_folder
from distill.errors import ModelError
from distill.export import FORMATS
from distill.models import folder_size_bytes
from eval.speed.export_jobs import distance_here, transformers_here, write_here


def test_a_written_format_is_measured_and_held_against_what_it_was_made_of(tmp_path: Path):
    """Q8_0 rounds each weight to an 8-bit multiple of its block's scale: the embedded teacher hardly notices."""
    written = write_here("gguf-q8_0", teacher_folder(), tmp_path / "out")
    assert written.refusal is None
    assert written.elapsed_s > 0
    assert written.size_bytes == folder_size_bytes(tmp_path / "out") > 0
    found = distance_here(tmp_path / "out" / FORMATS["gguf-q8_0"].model_file, teacher_folder(), num_chats=2)
    assert 0 < found.kl_nats < 1e-4
    assert found.kl_standard_error_nats > 0
    assert found.bits_per_weight == pytest.approx(8.5, abs=0.1)
    assert found.num_tokens > 10


def test_a_model_that_a_format_cannot_hold_is_a_refusal(tmp_path: Path):
    source = tmp_path / "empty"
    source.mkdir()
    written = write_here("gguf-q8_0", source, tmp_path / "out")
    assert written.refusal is not None
    assert str(source) in written.refusal


@pytest.mark.filterwarnings("ignore")
def test_the_peers_folder_is_read_as_ours_is(tmp_path: Path):
    written = transformers_here("nf4", teacher_folder(), tmp_path / "theirs")
    assert written.size_bytes == folder_size_bytes(tmp_path / "theirs")
    theirs = distance_here(tmp_path / "theirs", teacher_folder(), num_chats=2)
    assert 0 < theirs.kl_nats < 1e-2


def test_distance_of_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(ModelError):
        distance_here(tmp_path / "none", teacher_folder(), num_chats=2)
