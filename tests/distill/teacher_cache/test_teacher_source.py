import json
import pickle
from pathlib import Path

import pytest

from distill.errors import ModelError
from distill.models import load_model
from distill.teacher_cache.teacher_source import TeacherSource, device_of_worker
from tests.distill.teacher_cache.clusters import saved_teacher


def test_a_source_travels_and_loads_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = saved_teacher(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    here = TeacherSource("model").absolute()
    assert here == source
    travelled = pickle.loads(pickle.dumps(here))
    assert travelled.load().fingerprint == load_model(tmp_path / "model").fingerprint
    assert len(travelled.load_tokenizer()) == len(load_model(tmp_path / "model").tokenizer)


def test_a_source_is_plain_values():
    source = TeacherSource("owner/name", dtype="bfloat16", revision="abc")
    assert TeacherSource(**json.loads(json.dumps(source.to_json()))) == source  # type: ignore[arg-type]


def test_a_hub_id_and_a_template_keep_their_names_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    source = TeacherSource("owner/name", chat_template="chat.jinja").absolute()
    assert (source.model, source.chat_template) == ("owner/name", str(tmp_path / "chat.jinja"))


def test_a_model_that_is_nowhere_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"neither a folder here nor a model on the hub|does not exist"):
        TeacherSource(str(tmp_path / "nowhere")).load()


def test_workers_take_the_gpus_in_turn_unless_one_is_named():
    assert [device_of_worker("auto", worker=worker, num_gpus=2) for worker in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert device_of_worker("cuda:1", worker=0, num_gpus=2) == "cuda:1"
    assert device_of_worker("auto", worker=3, num_gpus=1) == "auto"
    assert device_of_worker("cpu", worker=3, num_gpus=8) == "cpu"
