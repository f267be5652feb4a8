import re

import pytest

from distill.errors import RecipeError
from distill.export.settings import ExportSettings
from distill.settings import validated


def test_a_format_named_twice_is_written_once():
    assert ExportSettings(formats=("gguf-f16", "bnb-nf4", "gguf-f16")).formats == ("gguf-f16", "bnb-nf4")


@pytest.mark.parametrize(
    ("formats", "message"),
    [(["gguf-q8"], "did you mean gguf-q8_0?"), (["onnx"], "'onnx' is not a known format (known formats: safetensors")],
)
def test_an_unknown_format_is_refused(formats, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        validated(ExportSettings, {"formats": formats}, source="export")


@pytest.mark.parametrize("values", [{"formats": []}, {"formats": ["gguf-f16"], "max_kl": 0}])
def test_settings_that_ask_for_nothing_are_refused(values):
    with pytest.raises(RecipeError, match=r"formats|max_kl is 0"):
        validated(ExportSettings, values, source="export")
