import math
import re

import numpy as np
import pytest

from distill.errors import ExportError
from distill.export.gguf_rope import Rope, rope_of

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e6}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def test_rope_is_read_from_new_and_old_configurations():
    assert rope_of({"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}) == Rope("default", 5000.0)
    old = {"rope_theta": 7000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert rope_of(old) == Rope("linear", 7000.0, 2.0)
    assert rope_of({}) == Rope("default", 10000.0)


def test_yarn_keeps_the_length_it_was_trained_at():
    assert rope_of({"rope_parameters": YARN}) == Rope("yarn", 1e6, 4.0, 32)
    usual = {**YARN, "beta_fast": 32, "beta_slow": 1, "attention_factor": 0.1 * math.log(4.0) + 1.0}
    assert rope_of({"rope_parameters": usual}) == Rope("yarn", 1e6, 4.0, 32)


def test_long_waves_are_stretched_and_short_ones_kept():
    """Waves of 2 pi theta^(2i/4): theta = (100/2pi)^2 gives 6.28 < 64 / 4, kept, and 100 > 64, stretched by 8."""
    rope = rope_of({"rope_parameters": {**LLAMA3, "rope_theta": (100 / (2 * math.pi)) ** 2}})
    np.testing.assert_allclose(rope.frequency_factors(4), [1.0, 8.0])


def test_between_them_the_factor_is_harmonic():
    """A wave of 25.6: 64 / 25.6 = 2.5, half way from 1 to 4, so 1 / (0.5 / 8 + 0.5) = 16 / 9."""
    rope = rope_of({"rope_parameters": {**LLAMA3, "rope_theta": (25.6 / (2 * math.pi)) ** 2}})
    np.testing.assert_allclose(rope.frequency_factors(4), [1.0, 16 / 9])
    assert rope_of({}).frequency_factors(4) is None


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "longrope"}, "rope_type is 'longrope'"),
        ({"rope_type": "linear"}, "factor is None"),
        ({"rope_type": "linear", "factor": 2.0, "gain": 1.0}, "linear rotary positions have gain"),
        ({**YARN, "beta_fast": 16}, "beta_fast is 16"),
        ({**YARN, "attention_factor": 1.0}, "attention_factor is 1.0"),
        ({**YARN, "mscale": 0.7}, "yarn rotary positions have mscale"),
        ({**YARN, "original_max_position_embeddings": None}, "original_max_position_embeddings is None"),
        ({**LLAMA3, "high_freq_factor": 1.0}, "high_freq_factor is 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is not 1"),
        ({"rope_theta": 0}, "rope_theta is 0"),
    ],
)
def test_positions_that_llama_cpp_would_compute_otherwise_are_refused(rope, message):
    with pytest.raises(ExportError, match=re.escape(message)):
        rope_of({"rope_parameters": rope})
