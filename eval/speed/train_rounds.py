"""Steps of all trainers in turn: the same loss first, then the clock."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from distill.errors import DistillError
from distill.training.feed import counts_of
from eval.speed import train_ours, train_trl_dpo, train_trl_gkd
from eval.speed.flops import PRODUCT_SIZE, MatrixProduct, needed_flops
from eval.speed.processes import Measured, StepLoop, StepServer, in_turn
from eval.speed.train_figures import MIB, StepRow, step_row
from eval.speed.train_trl import TrlSettings
from eval.speed.train_work import Work

log = logging.getLogger(__name__)

WARM_UP = 3
LOSS_TOLERANCE, LATER_TOLERANCE, RELATIVE_TOLERANCE = 1e-5, 1e-4, 1e-3
TRIAL_WARM_UP, TRIAL_STEPS = 1, 2
MATMUL = "matrix product"
TRL_DPO, TRL_GKD = "TRL DPO, reference precomputed", "TRL GKD, lambda 0"
GROUPS = ("preference", "distillation")


@dataclass(frozen=True)
class Clocking:
    """How long each trainer is looked at."""

    num_steps: int = 4
    num_repeats: int = 5
    num_threads: int = 2

    @property
    def num_steps_in_all(self) -> int:
        """Of one trainer, the warm-up's included."""
        return WARM_UP + self.num_steps * self.num_repeats


@dataclass(frozen=True)
class Rounds:
    """What a group's rounds gave; the matrix product's FLOP/s are those of each round."""

    rows: tuple[StepRow, ...]
    matmul_flops_per_s: tuple[float, ...]
    loss_difference: float | None


def preference_rounds(work: Work, caches: Path, clocking: Clocking, settings: TrlSettings | None) -> Rounds:
    """dDPO and daDPO against TRL's DPO; without `settings`, ours alone."""
    train_ours.write_caches(work, caches, codecs=(), has_reference=True)
    loops: dict[str, StepLoop] = {}
    if settings is not None:
        loops[TRL_DPO] = partial(train_trl_dpo.take_dpo_steps, work, settings, clocking.num_steps_in_all)
    ours = (train_ours.DADPO, train_ours.DDPO)
    loops |= {trainer.name: trainer.loop(work, caches) for trainer in ours}
    peer = None if settings is None else TRL_DPO
    return _rounds(work, loops, clocking, group=GROUPS[0], peer=peer, same=tuple(trainer.name for trainer in ours))


def distillation_rounds(work: Work, caches: Path, clocking: Clocking, settings: TrlSettings | None) -> Rounds:
    """kd from the cache against TRL's GKD with its teacher in memory; without `settings`, ours alone.

    `exact` gives the whole divergence, as TRL computes it; `top-k` gives a bound on it, which is compared with a plain
    computation from the same lists.
    """
    train_ours.write_caches(work, caches, codecs=("exact", "top-k"), has_reference=False)
    loops: dict[str, StepLoop] = {}
    if settings is not None:
        loops[TRL_GKD] = partial(train_trl_gkd.take_gkd_steps, work, settings, clocking.num_steps_in_all)
    ours = (train_ours.KD_TOP_K, train_ours.KD_EXACT)
    loops |= {trainer.name: trainer.loop(work, caches) for trainer in ours}
    plain = train_ours.plain_top_k_loss(work, caches, work.in_order(num_steps=1))
    return _rounds(
        work,
        loops,
        clocking,
        group=GROUPS[1],
        peer=None if settings is None else TRL_GKD,
        same=(train_ours.KD_EXACT.name,),
        expected={train_ours.KD_TOP_K.name: [plain]},
    )


def fastest_settings(
    work: Work, take: Callable[..., None], choices: Sequence[TrlSettings], *, num_threads: int
) -> TrlSettings:
    """Of some settings of TRL the one that takes its steps in the least time, each tried alone for some steps."""
    elapsed_s: dict[TrlSettings, float] = {}
    # Fewer pairs: the reference would read all of them for every trial.
    tried = replace(work, num_pairs=(TRIAL_WARM_UP + TRIAL_STEPS) * work.batch_pairs)
    for settings in choices:
        loop = partial(take, tried, settings, TRIAL_WARM_UP + TRIAL_STEPS)
        found = in_turn(
            {"TRL": loop}, num_warm_up=TRIAL_WARM_UP, num_steps=TRIAL_STEPS, num_repeats=1, num_threads=num_threads
        )
        elapsed_s[settings] = found["TRL"].blocks[0].elapsed_s
        log.info("TRL with %s: %.2f s for %d steps", settings.described(), elapsed_s[settings], TRIAL_STEPS)
    return min(elapsed_s, key=lambda settings: elapsed_s[settings])


def largest_difference(measured: Mapping[str, Measured], *, expected: Mapping[str, Sequence[float]]) -> float:
    """How far first losses are from what they should be, at most.

    A loss before any update may be off by `LOSS_TOLERANCE`. Later ones may by `LATER_TOLERANCE`, for AdamW moves a
    weight as far for a gradient of rounding errors as for any other. Small losses may be off by a thousandth.

    Args:
        measured: trainers whose warm-up is over.
        expected: what the first steps' losses are, by trainer.

    Raises:
        DistillError: a loss is further off.
    """
    largest = 0.0
    for name, losses in expected.items():
        warm_up = measured[name].warm_up
        assert warm_up is not None
        for number, (found, wanted) in enumerate(zip(warm_up.losses, losses, strict=False), start=1):
            difference = abs(found - wanted)
            tolerance = LOSS_TOLERANCE if number == 1 else LATER_TOLERANCE
            # Written so that a loss that is not a number is refused.
            if not difference <= min(tolerance, RELATIVE_TOLERANCE * abs(wanted)):
                raise DistillError(
                    f"the loss of {name} at step {number} is {found:.7f}, and {wanted:.7f} is expected",
                    why=f"they differ by {difference:.1e}, and {tolerance:g} and a thousandth of the loss are allowed",
                )
            if number == 1:
                largest = max(largest, difference)
    return largest


def take_products(server: StepServer) -> None:
    """Large matrix products, one a step."""
    product = MatrixProduct()
    goes_on = server.built()
    while goes_on:
        product.run()
        goes_on = server.stepped(0.0)


def _rounds(
    work: Work,
    loops: Mapping[str, StepLoop],
    clocking: Clocking,
    *,
    group: str,
    peer: str | None,
    same: Sequence[str],
    expected: Mapping[str, Sequence[float]] | None = None,
) -> Rounds:
    differences: list[float] = []

    def check(measured: Mapping[str, Measured]) -> None:
        wanted = dict(expected or {})
        if peer is not None:
            warm_up = measured[peer].warm_up
            assert warm_up is not None
            wanted |= dict.fromkeys(same, warm_up.losses)
        if wanted:
            differences.append(largest_difference(measured, expected=wanted))

    measured = in_turn(
        {**loops, MATMUL: take_products},
        num_warm_up=WARM_UP,
        num_steps=clocking.num_steps,
        num_repeats=clocking.num_repeats,
        num_threads=clocking.num_threads,
        after_warm_up=check,
    )
    products = measured.pop(MATMUL)
    flops = MatrixProduct.flops_of(PRODUCT_SIZE) * clocking.num_steps
    matmul = tuple(flops / block.elapsed_s for block in products.blocks)
    tokens, needed = amounts_of_blocks(work, clocking)
    rows = tuple(
        step_row(
            name,
            found,
            group=group,
            peer=None if peer in (None, name) else measured[peer],
            tokens=tokens,
            flops=needed,
            matmul_flops_per_s=matmul,
        )
        for name, found in measured.items()
    )
    for row in rows:
        log.info("%s: %.0f tokens/s, %.0f MiB a step", row.name, row.tokens_per_s.median, row.step_bytes / MIB)
    return Rounds(rows, matmul, max(differences, default=None))


def amounts_of_blocks(work: Work, clocking: Clocking) -> tuple[list[int], list[int]]:
    """Useful tokens and needed operations of every round's steps."""
    pairs = work.in_order(num_steps=clocking.num_steps_in_all)[WARM_UP * work.batch_pairs :]
    size = clocking.num_steps * work.batch_pairs
    blocks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    tokens = [sum(counts_of(pair).num_tokens for pair in block) for block in blocks]
    return tokens, [needed_flops(work.student, block) for block in blocks]
