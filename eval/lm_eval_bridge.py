"""Runs a task of lm-evaluation-harness (extra `lm-eval`) on local data against a checkpoint of ours, offline.

    python -m eval.lm_eval_bridge MODEL --tasks distill_cafe_order --json out.json

The package ships one tiny task of its own; `--include DIR` adds folders of YAML tasks.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.data import Message, template_hash
from distill.errors import DataError, RecipeError
from distill.files import write_json
from distill.models import Tokenizer, load_tokenizer

log = logging.getLogger(__name__)

TASKS = Path(__file__).parent / "data" / "lm_eval"
OWN_TASK, DATA_FILE = "distill_cafe_order", "cafe_order.jsonl"


@dataclass(frozen=True)
class HarnessRun:
    """What is run.

    Attributes:
        model: a model folder or hub id.
        tasks: names known in `include` or in the harness.
        include: folders of YAML tasks, besides the shipped one.
        applies_chat_template: whether questions are put through the model's chat template.
        limit: questions of each task; all by default.
        device: as torch names it.
        batch_size: changes speed only.
    """

    model: str
    tasks: tuple[str, ...] = (OWN_TASK,)
    include: tuple[Path, ...] = ()
    applies_chat_template: bool = False
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 8


def run_harness(run: HarnessRun) -> dict[str, object]:
    """The harness's figures by task, with what they were made from.

    Raises:
        RecipeError: lm_eval is not installed, or a task is unknown.
        ModelError: the model has no tokenizer.
    """
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise RecipeError(
            "lm-evaluation-harness is not installed", why=str(error), fix="pip install 'distill[lm-eval]'"
        ) from error
    tokenizer = load_tokenizer(run.model)
    warnings = template_warnings(tokenizer, applies_chat_template=run.applies_chat_template)
    for warning in warnings:
        log.warning("%s", warning)
    with shipped_tasks() as shipped:
        found = _evaluated(run, lm_eval, TaskManager(include_path=[str(folder) for folder in (shipped, *run.include)]))
    return {
        "model": run.model,
        "results": figures_of(found, tasks=run.tasks),
        "applies_chat_template": run.applies_chat_template,
        "template_sha256": template_hash(tokenizer),
        "warnings": warnings,
        "lm_eval": lm_eval.__version__,
    }


@contextmanager
def shipped_tasks() -> Iterator[Path]:
    """A folder with the shipped task, its data named by whole path: the harness looks for it where it is started."""
    with tempfile.TemporaryDirectory() as name:
        text = (TASKS / f"{OWN_TASK}.yaml").read_text(encoding="utf-8")
        path = json.dumps(str(TASKS / DATA_FILE))
        (Path(name) / f"{OWN_TASK}.yaml").write_text(text.replace(DATA_FILE, path), encoding="utf-8")
        yield Path(name)


def _evaluated(run: HarnessRun, lm_eval: Any, manager: Any) -> Any:
    unknown = [name for name in run.tasks if name not in manager.all_tasks]
    if unknown:
        raise RecipeError(
            f"task {unknown[0]} is unknown to lm-evaluation-harness",
            why=f"looked in {', '.join(map(str, run.include)) or 'no folder of yours'} and among its own",
            fix="name a folder with its YAML file: --include DIR",
        )
    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": run.model, "dtype": "float32"},
        tasks=list(run.tasks),
        task_manager=manager,
        device=run.device,
        batch_size=run.batch_size,
        limit=run.limit,
        apply_chat_template=run.applies_chat_template,
    )


def figures_of(found: Mapping[str, Any] | None, *, tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """Numbers by task and metric out of the harness's own document.

    Raises:
        DataError: a task has none.
    """
    results = (found or {}).get("results", {})
    figures = {
        task: {name: float(value) for name, value in results.get(task, {}).items() if isinstance(value, int | float)}
        for task in tasks
    }
    empty = [task for task, values in figures.items() if not values]
    if empty:
        raise DataError(f"task {empty[0]} gave no figure", why="the harness reports none", fix="check its metric_list")
    return figures


def template_warnings(tokenizer: Tokenizer, *, applies_chat_template: bool) -> list[str]:
    """What is known to make the harness's figures wrong for chat models: a BOS that stands twice, no template."""
    warnings = []
    bos = tokenizer.bos_token_id
    if applies_chat_template:
        messages = [Message("user", "hello").to_json()]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids = list(tokenizer(text)["input_ids"])
        if bos is not None and ids[:2] == [bos, bos]:
            warnings.append(
                f"the chat template writes {tokenizer.bos_token} and the tokenizer adds it again: every prompt begins "
                "with it twice, which lowers scores; take it out of the template or set add_bos_token to false"
            )
    elif tokenizer.chat_template:
        warnings.append(
            "the model has a chat template and questions are put to it without: figures are of plain continuation, and "
            "not comparable with those under --apply-chat-template"
        )
    return warnings


def main(words: Sequence[str] | None = None) -> None:
    """Prints the figures as JSON, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tasks", default=OWN_TASK, help="names, separated by commas")
    parser.add_argument("--include", action="append", type=Path, default=[], metavar="DIR")
    parser.add_argument("--apply-chat-template", "--apply_chat_template", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(words)
    found = run_harness(
        HarnessRun(
            given.model,
            tuple(given.tasks.split(",")),
            tuple(given.include),
            given.apply_chat_template,
            given.limit,
            given.device,
        )
    )
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if given.json is not None:
        write_json(given.json, found)


if __name__ == "__main__":
    main()
