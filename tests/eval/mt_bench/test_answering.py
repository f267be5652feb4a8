from pathlib import Path

import pytest

from distill.data import template_hash
from distill.decoding import LinearAlignmentGenerator, LinearAlignmentSettings, ServerSettings
from distill.errors import EndpointError, RecipeError
from distill.models import save_model
from eval.mt_bench.answering import (
    LoadingOptions,
    NamedModel,
    dtype_of,
    named_models,
    opened_model,
    opened_server,
    require_unsteered,
)
from eval.mt_bench.questions import Question
from tests.endpoint_server import NAME, serving, status

FIRST = Question(1, "writing", ("hello", "bye"), system="Be kind.")


def test_models_are_named_as_fastchat_files_them():
    assert named_models(["org/name"]) == [NamedModel("org__name", "org/name")]
    assert named_models(["a=x/y", "b=x/z"]) == [NamedModel("a", "x/y"), NamedModel("b", "x/z")]
    assert named_models(["x/y"], model_id="a") == [NamedModel("a", "x/y")]


def test_two_models_of_one_id_are_refused():
    with pytest.raises(RecipeError, match="x/y and z would both be filed under a"):
        named_models(["a=x/y", "a=z"])
    with pytest.raises(RecipeError, match="--model-id is a, and 2 models are named"):
        named_models(["x", "y"], model_id="a")


def test_a_checkpoint_tells_its_template_and_first_prompt(make_model, tmp_path: Path):
    loaded = make_model(0)
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    with opened_model(str(tmp_path), FIRST, LoadingOptions()) as opened:
        assert opened.parallel is None
        assert opened.provenance["template_sha256"] == template_hash(loaded.tokenizer)
        assert "Be kind." in str(opened.provenance["first_prompt"])


def test_a_folder_of_several_gguf_files_is_refused(tmp_path: Path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(RecipeError, match="holds 2 GGUF files"), opened_model(str(tmp_path), FIRST, LoadingOptions()):
        pass
    template = LoadingOptions(chat_template=tmp_path / "t.jinja")
    with pytest.raises(RecipeError, match="brings its own"), opened_model(str(tmp_path / "a.gguf"), FIRST, template):
        pass


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_that_fails_just_now_is_asked_again_and_never_filed_without_its_weights(make_model, code: int):
    """The second time it answers after one failure, which the client repeats."""
    with serving(make_model(0)) as server:
        settings = ServerSettings(base_url=server.url, model=NAME, max_retries=1)
        server.model_faults = [status(code)] * 2
        with pytest.raises(EndpointError, match=rf"(?s)which weights tiny stands for.*status {code}.*filed under them"):
            opened_server(settings)
        server.model_faults = [status(code)]
        opened = opened_server(settings)
        assert opened.provenance["served_model"] == "owner/tiny-model"
        assert opened.fingerprint == opened_server(settings).fingerprint


def test_a_server_that_lists_no_such_model_leaves_the_weights_unknown(make_model, caplog):
    with serving(make_model(0)) as server:
        other = opened_server(ServerSettings(base_url=server.url, model="alias"))
        server.model_faults = [status(404, "no such route")]
        unlisted = opened_server(ServerSettings(base_url=server.url, model=NAME))
    assert (other.provenance["served_model"], unlisted.provenance["served_model"]) == (None, None)
    assert caplog.text.count("stays unknown") == 2


def test_a_dtype_goes_by_its_name():
    assert dtype_of("bfloat16") == "bfloat16"
    with pytest.raises(RecipeError, match="--dtype is int4"):
        dtype_of("int4")


def test_a_steered_checkpoint_is_another_model_and_says_so(make_model, tmp_path: Path):
    loaded = make_model(0)
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    steered_by = LinearAlignmentSettings(principle="Be brief.", ratio=3.0)
    with opened_model(str(tmp_path), FIRST, LoadingOptions()) as plain:
        assert "linear_alignment" not in plain.provenance
    with opened_model(str(tmp_path), FIRST, LoadingOptions(alignment=steered_by)) as opened:
        assert isinstance(opened.generator, LinearAlignmentGenerator)
        assert opened.fingerprint != plain.fingerprint
        assert opened.provenance["linear_alignment"] == steered_by.model_dump(mode="json")


def test_a_principle_is_refused_where_no_logits_can_be_had(tmp_path: Path):
    steered = LoadingOptions(alignment=LinearAlignmentSettings(principle="Be brief."))
    (tmp_path / "a.gguf").touch()
    refused = r"--principle is given, and .*a.gguf answers in llama.cpp\nwhy: .*\nfix: leave"
    with pytest.raises(RecipeError, match=refused), opened_model(str(tmp_path / "a.gguf"), FIRST, steered):
        pass
    require_unsteered(None, "a server answers")
