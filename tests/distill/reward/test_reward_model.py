import dataclasses
import math

import pytest
import torch
import transformers

from distill.data import Message
from distill.errors import DataError, RecipeError
from distill.reward import (
    Calibration,
    RewardModel,
    fit_reward_model,
    load_reward_model,
    pair_accuracy,
    save_reward_model,
)
from distill.reward.reward_model import CALIBRATION_NAME, conversations_of

DIALOGUE = (Message("system", "Be kind."), Message("user", "hi"), Message("assistant", "a flat white please"))


@pytest.fixture(scope="module")
def fitted(body, pairs) -> RewardModel:
    return fit_reward_model(body, pairs).model


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("reward") / "model"
    save_reward_model(fitted, path)
    return path


def test_a_saved_model_scores_as_before(fitted, folder, pairs):
    loaded = load_reward_model(folder, device="cpu")
    torch.testing.assert_close(loaded.score(conversations_of(pairs)), fitted.score(conversations_of(pairs)))
    assert loaded.calibration == fitted.calibration


def test_plain_transformers_reads_the_checkpoint(fitted, folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    text = tokenizer.apply_chat_template([message.to_json() for message in DIALOGUE], tokenize=False)
    logits = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)).logits
    assert logits.shape == (1, 1)
    torch.testing.assert_close(logits[0], fitted.score([DIALOGUE]))


def test_no_token_stands_before_what_the_template_prints(fitted):
    """A tokenizer that adds a BOS of its own must not, where the template prints one or none."""
    ids = fitted.encode(DIALOGUE)
    text = fitted.loaded.tokenizer.decode(ids)
    assert text == "<|system|>Be kind.<|end|><|user|>hi<|end|><|assistant|>a flat white please<|end|>"


def test_the_score_from_1_to_10_by_hand():
    """At the mean 5.5; one scale above, 1 + 9 / (1 + 1/e); far out it stays in the range."""
    calibration = Calibration(mean=2.0, scale=0.5, num_pairs=1)
    assert calibration.score(2.0) == 5.5
    assert calibration.score(2.5) == pytest.approx(1 + 9 / (1 + math.exp(-1)))
    assert calibration.score(-1e9) == 1.0
    assert calibration.score(1e9) == 10.0


def test_accuracy_counts_equal_rewards_half(fitted, pairs, same_answers):
    flipped = [dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    assert pair_accuracy(fitted, pairs) == 1.0
    assert pair_accuracy(fitted, flipped) == 0.0
    assert pair_accuracy(fitted, same_answers) == 0.5


def test_identity_changes_with_weights_and_calibration(fitted, body):
    recalibrated = dataclasses.replace(fitted, calibration=Calibration(mean=0.0, scale=1.0, num_pairs=1))
    assert len({fitted.identity, recalibrated.identity, RewardModel(body).identity}) == 3


def test_nothing_has_no_rewards(fitted):
    assert fitted.score([]).shape == (0,)


def test_an_answer_too_long_for_the_model_is_refused(fitted):
    long = (Message("user", "hi"), Message("assistant", "x" * 200))
    with pytest.raises(DataError, match=r"conversation 1 has 20\d tokens"):
        fitted.score([DIALOGUE, long])


def test_no_pairs_measure_nothing(fitted):
    with pytest.raises(DataError, match="no pairs to measure a reward model on"):
        pair_accuracy(fitted, [])


def test_equal_answers_calibrate_nothing(fitted, same_answers):
    with pytest.raises(DataError, match="which do not differ"):
        fitted.calibrated(same_answers)


def test_a_damaged_calibration_is_refused(folder, tmp_path):
    broken = tmp_path / "model"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / CALIBRATION_NAME).write_text('{"mean": 0, "scale": 0, "num_pairs": 1}')
    with pytest.raises(RecipeError, match=r"reward_calibration\.json: scale"):
        load_reward_model(broken, device="cpu")
