"""One fit on all folds but one, on states of which the answer is known."""

import numpy as np
import pytest
import torch

from distill.data import CHAT_TEMPLATE, Message, PreferencePair
from distill.errors import DataError
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer
from distill.reward import EnergyFitSettings, EnergyHeadSettings, RefineSettings, RewardFitSettings
from eval.energy_exam import fitted_on_fold, margins, points
from eval.energy_settings import RewardStageSettings
from eval.pair_sets import GroupedPair, PairSetSettings, fold_of

SETTINGS = RewardStageSettings(
    pairs={"x": PairSetSettings(source="embedded", num_pairs=10)},
    base=RewardFitSettings(l2=0.1),
    energy=EnergyFitSettings(
        head=EnergyHeadSettings(reward_widths=(8,), joint_widths=(16,), dropout=0.0),
        spread=1.0,
        num_negatives=8,
        batch_size=16,
        num_epochs=10,
        learning_rate=1e-2,
    ),
    refine=RefineSettings(start="clamp", max_steps=20),
)


@pytest.fixture(scope="module")
def body() -> LoadedModel:
    tokenizer = train_tokenizer(["one tea please"] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    shape = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_length_tokens=64)
    return LoadedModel(new_model(shape, tokenizer, seed=0), tokenizer, "tiny", "fp")


def known(num: int) -> tuple[list[GroupedPair], torch.Tensor]:
    """The chosen answer's first coordinate is higher by two deviations of the noise."""
    pairs = [PreferencePair(str(n), (Message("user", f"q{n}"),), "yes", "no") for n in range(num)]
    states = torch.randn(2 * num, 16, generator=torch.Generator().manual_seed(0))
    states[:num, 0] += 2.0
    return [GroupedPair(pair, pair.id, pair.id) for pair in pairs], states


def test_one_fold_is_held_out_and_both_models_learn(body):
    pairs, states = known(60)
    fit = fitted_on_fold(body, pairs, states, SETTINGS, seed=7)
    expected = [one.cluster for one in pairs if fold_of(one, 5) == 2]
    assert list(fit.held.clusters) == expected
    assert fit.held.num_fitted == 60 - len(expected)
    assert 0 < fit.held.num_kept <= fit.held.num_fitted
    assert fit.held.least_climb >= 0
    assert points(fit.held.base).mean() > 0.5
    assert np.corrcoef(fit.held.base, fit.held.refined)[0, 1] > 0.5


def test_points_and_margins_by_hand():
    """Pairs (3 against 1) and (2 against 2)."""
    found = margins(torch.tensor([3.0, 2.0, 1.0, 2.0]))
    assert found.tolist() == [2.0, 0.0]
    assert points(found).tolist() == [1.0, 0.5]


def test_an_empty_fold_is_refused(body):
    pairs, states = known(1)
    with pytest.raises(DataError, match=r"fold \d of 5 holds [01] of 1 pairs"):
        fitted_on_fold(body, pairs, states, SETTINGS, seed=0)
