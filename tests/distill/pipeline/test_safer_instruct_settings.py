"""What the section refuses, each by its name."""

import pytest

from distill.errors import RecipeError
from distill.pipeline.safer_instruct_settings import SaferInstructSettings
from distill.settings import validated

SFT = {"objective": {"name": "sft"}, "learning_rate": 1e-3, "max_steps": 1, "global_batch_size": 1}
SERVER = {"base_url": "http://127.0.0.1:9/v1", "model": "x"}
SHAPE = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backward": {}}, "give either model or endpoint"),
        ({"backward": {"model": {"path": "a"}, "endpoint": SERVER}}, "give either model or endpoint"),
        ({"backward": {"endpoint": SERVER, "tuning": SFT}}, "a server's model is not trained here"),
        ({"backward": {"model": {"recipe": "a.yaml"}}}, "model needs path or scratch"),
        ({"backward": {"model": {"scratch": SHAPE}}}, "random weights know nothing"),
        ({"backward": {"model": {"path": "a"}, "tuning": SFT | {"objective": {"name": "dpo"}}}}, "sft is what learns"),
        ({"judge": {"model": {"path": "a"}, "tuning": SFT}}, "tuning and requests go together"),
        ({"judge": {"endpoint": SERVER, "template": "Bad?"}}, r"holds \{instruction\} 0 times"),
        ({"texts": {"source": "web"}}, "source"),
    ],
)
def test_sections_that_cannot_run_are_refused(changed: dict, message: str):
    sound = {"texts": {"source": "embedded"}, "backward": {"endpoint": SERVER}, "judge": {"endpoint": SERVER}}
    validated(SaferInstructSettings, sound, source="recipe")
    with pytest.raises(RecipeError, match=message):
        validated(SaferInstructSettings, sound | changed, source="recipe")
