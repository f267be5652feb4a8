"""Writes the golden shards: `python -m tests.distill.teacher_cache.codecs.golden`, once for each format version."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import TierSettings
from tests.distill.teacher_cache.codecs.examples import codec_for, some_head, some_states

FOLDER = Path(__file__).parents[1] / "golden"
SEQUENCE_IDS, LENGTHS = ["first", "second"], [4, 3]
SETTINGS = {
    "scores": {"codec": "scores"},
    "exact": {"codec": "exact"},
    "exact-float32": {"codec": "exact", "hidden_dtype": "float32"},
    "exact-int8": {"codec": "exact-int8", "group_size": 5},
    "logits-bf16": {"codec": "logits-bf16"},
    "top-k": {"codec": "top-k", "k": 5},
    "sampled": {"codec": "sampled", "num_samples": 20, "seed": 7},
}


def main() -> None:
    """Inputs lie on a grid, so that every machine's head product gives the same logits to the last bit."""
    head = some_head(vocab_size=70, hidden_size=12)
    assert head.bias is not None
    head = OutputHead((head.weight * 64).round() / 64, (head.bias * 64).round() / 64)
    states = (some_states(sum(LENGTHS), hidden_size=12) * 64).round() / 64
    targets = torch.arange(sum(LENGTHS))
    FOLDER.mkdir(exist_ok=True)
    inputs = {"hidden_states": states, "weight": head.weight, "bias": head.bias, "target_ids": targets}
    save_file(inputs, FOLDER / "inputs.safetensors")
    for name, settings in SETTINGS.items():
        codec = codec_for(head, **settings)
        rows = codec.encode(states, targets, head=head, sequence_ids=SEQUENCE_IDS, lengths=LENGTHS)
        tensors = {"records": rows.records}
        if rows.entry_counts is not None:
            tensors["entry_counts"] = rows.entry_counts
        metadata = {"settings": json.dumps(TierSettings.model_validate(settings).model_dump())}
        save_file(tensors, FOLDER / f"{name}.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
