"""A checkpoint of one number of processes in another number: through DeepSpeed's universal format."""

import importlib
import io
import logging
import shutil
import tempfile
import time
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from distill.errors import TrainingError
from distill.files import replacing_folder
from distill.models.world import World, wait_for_main_rank

log = logging.getLogger(__name__)


def load_across_world_sizes(engine: Any, folder: Path, *, tag: str, world: World) -> None:
    """Puts a checkpoint that another number of processes wrote into the engine; all ranks call this together.

    ZeRO cuts weights and optimizer state over the ranks, so the main rank first joins the parts, parameter by
    parameter, into a folder beside the checkpoint, which goes away once every rank has read its own part. A process
    that dies meanwhile leaves the checkpoint as it was; the next start begins the joining anew.

    Raises:
        TrainingError: the joined parts cannot be written.
    """
    if engine.zero_optimization_stage() == 0:
        # Every rank has the whole state, and the main rank's is what is on disk.
        engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
        return
    joined = folder.parent / f".{folder.name}.universal"
    if world.is_main:
        shutil.rmtree(joined, ignore_errors=True)
    world.wait()
    if world.is_main:
        _join(folder / tag, joined, tag=tag)
    else:
        # No collective: joining may take longer than a collective is allowed to.
        wait_for_main_rank(joined)
    _load(engine, joined, tag=tag)
    world.wait()
    if world.is_main:
        shutil.rmtree(joined)


def _join(parts: Path, joined: Path, *, tag: str) -> None:
    """Writes `joined/tag` out of the ranks' `parts`, whole or not at all."""
    started = time.perf_counter()
    try:
        with replacing_folder(joined) as partial, tempfile.TemporaryDirectory() as plain:
            (partial / tag).mkdir()
            # DeepSpeed puts the paths into regular expressions: it gets some without special characters.
            source, target = Path(plain) / "parts", Path(plain) / "joined"
            source.symlink_to(parts.resolve())
            target.symlink_to((partial / tag).resolve())
            _run_deepspeed(source, target)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"checkpoint {parts.parent} cannot be brought to another number of processes: {error}",
            why=f"its parts are joined beside it first, and {_free_gib(parts):.1f} GiB are free there",
            fix="free some space, or start as many processes as wrote it",
        ) from error
    log.info("joined the parts of %s in %.1f s", parts.parent, time.perf_counter() - started)


def _run_deepspeed(source: Path, target: Path) -> None:
    """DeepSpeed's own conversion, in this process, without its prints."""
    converter = importlib.import_module("deepspeed.checkpoint.ds_to_universal")
    arguments = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        converter.main(arguments)
    log.debug("%s", printed.getvalue())


def _load(engine: Any, joined: Path, *, tag: str) -> None:
    """Loads joined parts, and mends what that leaves wrong in the optimizer."""
    optimizer = engine.optimizer.optimizer
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    engine._config.load_universal_checkpoint = True
    try:
        engine.load_checkpoint(str(joined), tag=tag, load_module_strict=False)
    finally:
        engine._config.load_universal_checkpoint = False
    for group, values in zip(optimizer.param_groups, own, strict=True):
        # Stage 3 gives every group the first one's weight decay.
        group.update(values)
    for weight, state in optimizer.state.items():
        if "step" in state:
            # Stage 3 gives all weights one tensor as their count of steps; each would count for all.
            state["step"] = state["step"].clone().to(weight.device)


def _free_gib(path: Path) -> float:
    return shutil.disk_usage(path).free / 2**30
