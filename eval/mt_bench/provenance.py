"""What stands beside a judgment file so that the file itself can stay FastChat's: who judged what, shown how."""

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import distill
from distill.files import fingerprint, sha256_of_file
from eval.judges.base import Judge
from eval.mt_bench.call_store import Call
from eval.mt_bench.derived import verdict_of
from eval.mt_bench.matches import Match

LIBRARIES = ("torch", "transformers", "openai")


def judging_provenance(
    judge: Judge,
    matches: Collection[Match],
    chosen: Sequence[Call],
    found: Sequence[Call],
    *,
    judgments: Path,
    inputs: Mapping[str, object],
) -> dict[str, object]:
    """The content of `<judge>_<mode>.meta.json`; the same calls give the same content.

    Args:
        judge: who judged.
        matches: what was asked, repeats too.
        chosen: the calls in the file.
        found: the calls of what was asked, done or failed.
        judgments: FastChat's file, if there is one.
        inputs: what the caller knows of the inputs.
    """
    done = [call for call in found if call.status == "done"]
    prompts = {match.prompt.name: fingerprint(match.prompt.to_json()) for match in matches}
    sets = sorted({match.reference_set for match in matches if match.reference_set is not None})
    return {
        "format": "distill-judging",
        "version": 1,
        "judge": {"name": judge.name, "identity": dict(judge.identity), "sha256": fingerprint(dict(judge.identity))},
        "prompts": prompts,
        "reference_set": sets[0] if sets else None,
        "repeats": 1 + max(match.repeat for match in matches),
        "inputs": dict(inputs),
        "judgments_sha256": sha256_of_file(judgments) if judgments.exists() else None,
        "served_models": _counted(call.model for call in chosen),
        "system_fingerprints": _counted(call.system_fingerprint or "not told" for call in chosen),
        "request_fields_left_out": sorted({name for call in chosen for name in call.left_out}),
        "calls": {
            "asked_for": len(matches),
            "done": len(done),
            "failed": len(found) - len(done),
            "missing": len(matches) - len(found),
            "in_the_file": len(chosen),
        },
        "verdicts": _counted(verdict_of(call).status for call in done),
        "rules": _counted(verdict_of(call).rule for call in done),
        "finish_reasons": _counted(call.finish_reason or "not told" for call in done),
        "num_prompt_tokens": sum(call.num_prompt_tokens or 0 for call in done),
        "num_completion_tokens": sum(call.num_completion_tokens or 0 for call in done),
        "num_calls_without_usage": sum(call.num_completion_tokens is None for call in done),
        "versions": {"distill": distill.__version__, "python": platform.python_version(), **_versions()},
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
