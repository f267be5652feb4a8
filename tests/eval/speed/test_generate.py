import json

from distill.data import Message
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.models import save_model
from eval.speed.generate import main, measure, peer_tokens, until_end

PROMPTS = [[Message("user", "hello")], [Message("user", "a flat white please, and milk")], [Message("user", "bye")]]
SETTINGS = SamplingSettings(temperature=0.0, max_new_tokens=6, batch_size=2)


def test_both_generators_write_equally_many_tokens(make_model):
    loaded = make_model(0)
    ours = TransformersGenerator(loaded).generate(PROMPTS, SETTINGS, seed=0)
    assert peer_tokens(loaded, PROMPTS, settings=SETTINGS) == sum(generation.num_tokens for generation in ours)


def test_the_line_says_what_was_measured(make_model):
    line = measure(make_model(0), PROMPTS, settings=SETTINGS, num_runs=2)
    assert line["shape"] == {"prompts": 3, "batch_size": 2, "max_new_tokens": 6, "vocab": 280}
    assert line["dtype"] == "float32"
    assert set(line["median_s"]) == {"ours", "transformers"}
    assert line["ratio_to_transformers"] > 0
    assert line["peak_memory_mib"] > 0


def test_the_command_prints_one_json_line(make_model, tmp_path, capsys):
    loaded = make_model(0)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "model")
    main([str(tmp_path / "model"), "--prompts", "2", "--max-new-tokens", "2", "--runs", "1"])
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["benchmark"] == "generate"


def test_tokens_after_the_first_end_do_not_count():
    assert until_end([5, 6, 1, 0, 0], [1, 2]) == 3
    assert until_end([5, 6], [1, 2]) == 2
