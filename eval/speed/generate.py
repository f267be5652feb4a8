"""Generation speed of `TransformersGenerator` against transformers' own `generate`, on the same prompts.

    python -m eval.speed.generate [MODEL]

Prints one JSON line: greedy answers of both, interleaved A B A B, tokens a second and their ratio. Tokens after an
end of turn, with which transformers fills its batches, do not count.
"""

import argparse
import itertools
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from distill.data import render_prompt
from distill.data.records import Message, messages_from
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.embedded import draw
from distill.models import LoadedModel, end_ids, load_model


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.generate", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="embedded", help="a model folder, a hub id, or `embedded`")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    rows = draw("test", num_dialogues=options.prompts, seed=0)
    prompts = [_first_turns(messages_from(row["messages"], where=str(row["id"]))) for row in rows]
    settings = SamplingSettings(temperature=0.0, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size)
    print(json.dumps(measure(load_model(options.model), prompts, settings=settings, num_runs=options.runs)))


def measure(
    loaded: LoadedModel, prompts: Sequence[Sequence[Message]], *, settings: SamplingSettings, num_runs: int
) -> dict[str, object]:
    """Both generators on the clock in turn, after a warm-up of each."""
    generator = TransformersGenerator(loaded)

    def ours() -> int:
        return sum(generation.num_tokens for generation in generator.generate(prompts, settings, seed=0))

    def peers() -> int:
        return peer_tokens(loaded, prompts, settings=settings)

    num_tokens = {"ours": ours(), "transformers": peers()}
    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(num_runs):
        times["ours"].append(_elapsed_s(ours))
        times["transformers"].append(_elapsed_s(peers))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "benchmark": "generate",
        "model": loaded.source,
        "shape": {
            "prompts": len(prompts),
            "batch_size": settings.batch_size,
            "max_new_tokens": settings.max_new_tokens,
            "vocab": len(loaded.tokenizer),
        },
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "device": str(loaded.model.device),
        "threads": torch.get_num_threads(),
        "num_tokens": num_tokens,
        "median_s": medians,
        "tokens_per_s": {name: num_tokens[name] / medians[name] for name in medians},
        "ratio_to_transformers": statistics.median(
            (num_tokens["ours"] / a) / (num_tokens["transformers"] / b)
            for a, b in zip(times["ours"], times["transformers"], strict=True)
        ),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@torch.inference_mode()
def peer_tokens(loaded: LoadedModel, prompts: Sequence[Sequence[Message]], *, settings: SamplingSettings) -> int:
    """Greedy answers by transformers' own `generate`, batched by length as ours are; returns how many tokens."""
    rendered = sorted((render_prompt(loaded.tokenizer, prompt) for prompt in prompts), key=len, reverse=True)
    ends = end_ids(loaded.model, loaded.tokenizer)
    pad_id = loaded.tokenizer.pad_token_id
    num_tokens = 0
    for start in range(0, len(rendered), settings.batch_size):
        rows = rendered[start : start + settings.batch_size]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows], device=loaded.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=loaded.model.device)
        answers = loaded.model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=list(ends),
            pad_token_id=pad_id,
        )
        num_tokens += sum(until_end(answer, ends) for answer in answers[:, width:].tolist())
    return num_tokens


def until_end(ids: Sequence[int], ends: Sequence[int]) -> int:
    """How many tokens stand up to the first end token, it included."""
    return next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))


def _first_turns(messages: Sequence[Message]) -> list[Message]:
    """The messages before the first answer."""
    return list(itertools.takewhile(lambda message: message.role != "assistant", messages))


def _elapsed_s(run: Callable[[], int]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
