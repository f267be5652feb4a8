"""Which of a file's judge prompts is shown when: FastChat's four prompts a mode, found by their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from distill.errors import DataError
from eval.mt_bench.judge_prompts import JudgePrompt

Mode = Literal["single", "pair"]

# default, with reference, two turns, two turns with reference
FASTCHAT_NAMES: dict[str, tuple[str, str, str, str]] = {
    "single-v1": ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"),
    "pair-v2": ("pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn"),
}
SUFFIXES = ("", "-reference", "-turns", "-reference-turns")


@dataclass(frozen=True)
class PromptSet:
    """The four prompts of a mode by name; one that the file lacks is missed only when a match needs it."""

    mode: Mode
    names: tuple[str, str, str, str]
    prompts: Mapping[str, JudgePrompt]

    def choose(self, *, turn: int, has_reference: bool) -> JudgePrompt:
        """The prompt for a turn, from 1.

        Raises:
            DataError: the file holds no such prompt.
        """
        name = self.names[2 * (turn > 1) + has_reference]
        if name not in self.prompts:
            shown = "with" if has_reference else "without"
            raise DataError(
                f"the judge prompts hold no {name}",
                why=f"turn {turn} {shown} a reference answer needs it",
                fix=f"add a row named {name} to judge_prompts.jsonl, or choose another set",
            )
        return self.prompts[name]


def prompt_set(prompts: Mapping[str, JudgePrompt], *, mode: Mode, name: str | None = None) -> PromptSet:
    """The set of a mode.

    A set is called by its first prompt: FastChat's `single-v1` and `pair-v2`, or any NAME beside which stand
    NAME-reference, NAME-turns and NAME-reference-turns.

    Args:
        prompts: of a `judge_prompts.jsonl`.
        mode: what the judge is asked for.
        name: which set; may be left out where the file holds one of this mode.

    Raises:
        DataError: there is no such set, or there are several to choose from.
    """
    kind = "single" if mode == "single" else "pairwise"
    fitting = {key: prompt for key, prompt in prompts.items() if prompt.type == kind}
    later = {known for names in FASTCHAT_NAMES.values() for known in names[1:]}
    later |= {f"{key}{suffix}" for key in fitting for suffix in SUFFIXES[1:]}
    bases = sorted(fitting.keys() - later)
    if name is None and len(bases) == 1:
        name = bases[0]
    if name is None or name not in bases:
        raise DataError(
            f"the judge prompts hold {'several sets' if name is None else f'no set {name!r}'} for mode {mode}",
            why=f"there are: {', '.join(bases) or 'none'}",
            fix="name one of these" if bases else "name another file of judge prompts",
        )
    first, second, third, fourth = SUFFIXES
    names = FASTCHAT_NAMES.get(name) or (name + first, name + second, name + third, name + fourth)
    return PromptSet(mode, names, fitting)
