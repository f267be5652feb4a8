"""Stage `reward`: a base reward model and EBRM on it for each pair set, measured on held-out pairs and as best-of-n."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.data import Conversation, Message, read_conversations
from distill.decoding import TransformersGenerator
from distill.errors import RecipeError
from distill.files import fingerprint, fingerprint_of_folder, sha256_of_file, write_json, write_text
from distill.models import LoadedModel, load_model
from distill.pipeline.f_dpg import first_question, without_doubles
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start
from distill.pipeline.teacher import load_teacher
from distill.preference.blocks import derived_seed
from distill.reward import EnergyRewardModel, RewardModel, cached_states, conversations_of, save_energy_model
from distill.reward.reward_model import measured_calibration
from distill.reward.states_file import read_states
from eval.checkers import checker_for
from eval.energy_exam import SeedFit, fitted_on_fold
from eval.energy_figures import EnergyFigures
from eval.energy_settings import BestOfNSettings, RewardStageSettings
from eval.energy_summary import best_of_n_rows, summarised
from eval.pair_sets import GroupedPair, read_pair_set

log = logging.getLogger(__name__)

MODEL_NAME, RESULTS_NAME, TABLE_NAME = "model", "results.json", "results.md"
BEST_OF_N = "best of n"
"""Names a file of states, as no set may be named."""
Floats = NDArray[np.float64]


def run_reward(run: RunFolder) -> dict[str, object]:
    """Writes `model/` (EBRM with its base, of the first set and seed), `results.json` and `results.md`."""
    settings = run.recipe.reward
    assert settings is not None
    shared = _shared_body(run, settings)
    pairs = {name: read_pair_set(one, seed=run.recipe.seed) for name, one in settings.pairs.items()}
    fits: dict[str, list[SeedFit]] = {}
    bodies: dict[str, LoadedModel] = {}
    for name, one in settings.pairs.items():
        bodies[name] = shared if one.body is None else load_model(one.body)
        pairs[name] = readable(bodies[name], pairs[name], name)
        fits[name] = _fits(run, bodies[name], pairs[name], name)
    first = next(iter(fits))
    model = _calibrated(fits[first][0].model, pairs[first], read_states(states_file(run, first)).states)
    save_energy_model(model, run.stage("reward") / MODEL_NAME)
    rows = summarised(
        {name: [fit.held for fit in own] for name, own in fits.items()},
        {name: len(own) for name, own in pairs.items()},
        seed=run.recipe.seed,
    )
    figures = EnergyFigures(described=_described(settings), num_seeds=settings.num_seeds, sets=tuple(rows))
    if settings.best_of_n is not None:
        figures = _with_best_of_n(run, figures, fits[first], bodies[first], settings.best_of_n)
    write_json(run.stage("reward") / RESULTS_NAME, figures.model_dump(mode="json"))
    write_text(run.stage("reward") / TABLE_NAME, figures.to_markdown())
    log.info("%s", figures.to_markdown())
    return {"table": str(run.stage("reward") / TABLE_NAME), "pairs": {name: len(own) for name, own in pairs.items()}}


def named_files_identity(settings: RewardStageSettings) -> str:
    """A fingerprint of the contents of the files that the section names.

    Raises:
        RecipeError: a set's path does not exist.
    """
    found: list[object] = []
    for name, one in settings.pairs.items():
        if one.path is not None and not one.path.exists():
            raise RecipeError(
                f"reward.pairs.{name}.path {one.path} does not exist",
                fix=f"check the path, or override it: reward.pairs.{name}.path=FOLDER",
            )
        for path in (one.path, None if one.body is None else Path(one.body)):
            if path is not None and path.exists():
                found.append(fingerprint_of_folder(path) if path.is_dir() else sha256_of_file(path))
    return fingerprint(found)


def readable(body: LoadedModel, pairs: Sequence[GroupedPair], name: str) -> list[GroupedPair]:
    """The pairs whose two answers the body can read whole; the others are counted in the log.

    Raises:
        RecipeError: it is none.
    """
    reader = RewardModel(body)
    longest = reader.max_length_tokens
    kept = [
        one
        for one in pairs
        if longest is None or max(len(reader.encode(c)) for c in conversations_of([one.pair])) <= longest
    ]
    if len(kept) < len(pairs):
        log.info(
            "%s: %d of %d pairs are longer than %s tokens, left out", name, len(pairs) - len(kept), len(pairs), longest
        )
    if not kept:
        raise RecipeError(
            f"no pair of reward.pairs.{name} fits {body.source}",
            why=f"it reads {longest} tokens at most",
            fix=f"name a body for longer texts: reward.pairs.{name}.body=FOLDER",
        )
    return kept


def _shared_body(run: RunFolder, settings: RewardStageSettings) -> LoadedModel:
    if settings.body is not None:
        return load_model(settings.body)
    return load_start(run) if run.recipe.teacher is None else load_teacher(run)


def states_file(run: RunFolder, name: str) -> Path:
    """Where the states of a set's answers stand."""
    return run.stage("reward") / "states" / f"{name}.safetensors"


def _calibrated(model: EnergyRewardModel, pairs: Sequence[GroupedPair], states: Tensor) -> EnergyRewardModel:
    """The model and its base with their rewards measured on the set's answers, whose states are known."""
    base = model.base.rewards_of(states)
    seeds = [model.start_seed(one) for one in conversations_of([one.pair for one in pairs])]
    refined = model.scale.outward(model.ascent(states.float(), base, seeds=seeds).rewards)
    return dataclasses.replace(
        model,
        base=dataclasses.replace(model.base, calibration=measured_calibration(base, len(pairs))),
        calibration=measured_calibration(refined, len(pairs)),
    )


def _fits(run: RunFolder, body: LoadedModel, pairs: Sequence[GroupedPair], name: str) -> list[SeedFit]:
    """One fit a seed on states that the body gave once."""
    settings = run.recipe.reward
    assert settings is not None
    conversations = conversations_of([one.pair for one in pairs])
    states = cached_states(RewardModel(body), conversations, states_file(run, name)).states
    fits = []
    for number in range(settings.num_seeds):
        log.info("reward: %s, seed %d", name, run.recipe.seed + number)
        fits.append(fitted_on_fold(body, pairs, states, settings, seed=run.recipe.seed + number))
    return fits


def _with_best_of_n(
    run: RunFolder, figures: EnergyFigures, fits: Sequence[SeedFit], body: LoadedModel, settings: BestOfNSettings
) -> EnergyFigures:
    """The figures with the curve of best-of-n on held-out test prompts."""
    prompts = _checked_prompts(run, settings)
    asked = [prompt.messages for prompt in prompts for _ in range(settings.num_answers)]
    policy = TransformersGenerator(load_start(run))
    answers = policy.generate(asked, settings.sampling, seed=derived_seed(run.recipe.seed, "best-of-n"))
    texts = [answer.text for answer in answers]
    shape = (len(prompts), settings.num_answers)
    owners = [prompt for prompt in prompts for _ in range(settings.num_answers)]
    gold = np.array([float(_is_right(o, text)) for o, text in zip(owners, texts, strict=True)]).reshape(shape)
    dialogues = [(*prompt, Message("assistant", text)) for prompt, text in zip(asked, texts, strict=True)]
    states = cached_states(RewardModel(body), dialogues, states_file(run, BEST_OF_N)).states
    base, refined = [], []
    for fit in fits:
        rewards = fit.model.base.rewards_of(states)
        seeds = [fit.model.start_seed(dialogue) for dialogue in dialogues]
        base.append(rewards.double().numpy().reshape(shape))
        refined.append(fit.model.ascent(states.float(), rewards, seeds=seeds).rewards.double().numpy().reshape(shape))
    rows, base_fall, refined_fall = best_of_n_rows(base, refined, gold, seed=run.recipe.seed)
    return figures.model_copy(update={"best_of_n": tuple(rows), "base_fall": base_fall, "refined_fall": refined_fall})


def _checked_prompts(run: RunFolder, settings: BestOfNSettings) -> list[Conversation]:
    """First questions of test conversations whose answers the data's checker can judge.

    Raises:
        RecipeError: there are fewer than two.
    """
    test = [first_question(one, keeps_system=True) for one in read_conversations(run.conversations("test"))]
    prompts = [one for one in without_doubles(test) if checker_for(one) is not None][: settings.num_prompts]
    if len(prompts) < 2:
        raise RecipeError(
            f"reward.best_of_n needs test conversations with a checker, and the data holds {len(prompts)}",
            why="the checker is the gold reward",
            fix="data.source=embedded data.num_test=200, or reward.best_of_n=null",
        )
    return prompts


def _is_right(prompt: Conversation, text: str) -> bool:
    checker = checker_for(prompt)
    assert checker is not None
    return checker.check(prompt, 0, text).is_right


def _described(settings: RewardStageSettings) -> str:
    sizes = settings.energy.head
    layers = "-".join(map(str, (1, *sizes.reward_widths))) + " and " + "-".join(map(str, (*sizes.joint_widths, 1)))
    return (
        f"{settings.num_seeds} seeds, each with one of {settings.num_folds} folds held out; energy head {layers}, start"
        f" {settings.refine.start}; gold: the data's checker; 95 % intervals resampled by cluster, differences paired"
    )
