"""Does the judge grade its own kin? In distillation the teacher is often the judge, and the student writes like it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FAMILIES: dict[str, str] = {
    "claude": r"claude",
    "command": r"command-(?:r|a|light|nightly)|c4ai|aya",
    "deepseek": r"deepseek",
    "falcon": r"falcon",
    "gemini": r"gemini|palm|bard",
    "gemma": r"gemma|shieldgemma",
    "glm": r"(?:chat)?glm",
    "gpt": r"gpt-?(?:3|4|5)|gpt-oss|chatgpt|davinci|^o[134](?:-|$)",
    "granite": r"granite",
    "grok": r"grok",
    "internlm": r"internlm",
    "llama": r"(?:code|tiny|open)?llama|vicuna|alpaca|koala|guanaco|wizardlm|tulu|nous-hermes",
    "mistral": r"mistral|mixtral|ministral|codestral|zephyr|magistral",
    "mpt": r"mpt",
    "nemotron": r"nemotron",
    "olmo": r"olmo",
    "phi": r"phi-?[1-9]",
    "pythia": r"pythia|dolly|oasst",
    "qwen": r"qwen|qwq|qvq",
    "smollm": r"smollm",
    "stablelm": r"stablelm|stable-vicuna",
    "yi": r"yi-",
}
"""Family to the words that tell it, wherever one begins a part of the name; fine-tuned models go with their base."""


@dataclass(frozen=True)
class Relative:
    """A model in its part: `judge`, `teacher`, `student` or another; the fingerprint where its weights are known.

    `family` overrules what the name says: our own students carry names that tell nothing.
    """

    part: str
    name: str
    fingerprint: str | None = None
    family: str | None = None

    @property
    def families(self) -> frozenset[str]:
        """The family given, else those its name tells."""
        return families_of(self.name) if self.family is None else frozenset([self.family])


@dataclass(frozen=True)
class Kinship:
    """How a judge and a judged model are related; `unknown` where a name tells nothing."""

    judge: str
    part: str
    model: str
    relation: Literal["same weights", "same name", "same family", "unknown"]
    families: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The relation in words, to be followed by those it holds with."""
        return {
            "same weights": "has the same weights as",
            "same name": "has the same name as",
            "same family": f"is of the same family ({', '.join(self.families)}) as",
            "unknown": "is of an unknown relation to",
        }[self.relation]


def families_of(name: str) -> frozenset[str]:
    """The families whose words stand in a model's name; a distilled one may have two, an unknown one none."""
    plain = name.lower().replace("_", "-").replace(" ", "-").rsplit("/", 1)[-1]
    return frozenset(
        family for family, words in FAMILIES.items() if re.search(rf"(?<![a-z])(?:{words})", plain) is not None
    )


def kinships(judge: Relative, others: Sequence[Relative]) -> list[Kinship]:
    """Every relation of the judge worth a warning, in the order of the others; none where families differ."""
    found = []
    for other in others:
        shared = tuple(sorted(judge.families & other.families))
        relation: Literal["same weights", "same name", "same family", "unknown"] | None = None
        if judge.fingerprint is not None and judge.fingerprint == other.fingerprint:
            relation = "same weights"
        elif judge.name == other.name:
            relation = "same name"
        elif shared:
            relation = "same family"
        elif not judge.families or not other.families:
            relation = "unknown"
        if relation is not None:
            found.append(Kinship(judge.name, other.part, other.name, relation, shared))
    return found
