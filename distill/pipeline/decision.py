"""What happens to a stage - run, resume, extend, restart or skip - and why."""

from dataclasses import dataclass

from distill.files import fingerprint
from distill.pipeline.cache import holds_tiers
from distill.pipeline.manifest import read_manifest
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stages import ADDED, STAGES, inputs_of


@dataclass(frozen=True)
class Decision:
    """What will happen to a stage, and why."""

    stage: str
    action: str
    reason: str
    fingerprint: str


def decide(run: RunFolder, name: str, *, force: bool, rerun: frozenset[str]) -> Decision:
    """Whether a stage is skipped, resumed, extended, started over or run for the first time.

    Args:
        run: the recipe bound to its folder.
        name: the stage.
        force: the user asked to start this stage over.
        rerun: stages that will run before this one; one that needs them runs too.
    """
    key = fingerprint(inputs_of(run, name))
    found = read_manifest(run.stage(name))
    changed = sorted(rerun.intersection(STAGES[name].needs))
    if found is None:
        return Decision(name, "run", "not made yet", key)
    if force:
        return Decision(name, "restart", "forced", key)
    if changed:
        return Decision(name, "restart", f"{', '.join(changed)} runs again", key)
    before, after = found.inputs, inputs_of(run, name)
    differing = sorted(part for part in before.keys() | after.keys() if before.get(part) != after.get(part))
    if found.fingerprint != key and differing != [ADDED]:
        return Decision(name, "restart", f"changed since it was made: {', '.join(differing)}", key)
    newer = [need for need in STAGES[name].needs if started(run, need) > found.started]
    if newer:
        return Decision(name, "restart", f"{', '.join(newer)} was made again since", key)
    if differing and not holds_tiers(run):
        return Decision(name, "extend", f"other {ADDED} are asked for; what stands is kept", key)
    if found.status == "running":
        return Decision(name, "resume", f"was cut off (started {found.started})", key)
    return Decision(name, "skip", f"stands since {found.started}", key)


def started(run: RunFolder, name: str) -> str:
    """When a stage was started, to the second; empty where it never was."""
    found = read_manifest(run.stage(name))
    return "" if found is None else found.started
