"""Loads what trainers need, once, in the process that theirs are forked from; it computes nothing itself."""

import gc
import importlib
import importlib.util

from distill.models.world import import_deepspeed
from eval.speed import train_ours

LIBRARIES = {
    "trl": ("trl.trainer.dpo_trainer", "trl.experimental.gkd.gkd_trainer"),
    "liger_kernel": ("liger_kernel.chunked_loss",),
}
"""By the package that has to be installed."""

__all__ = ["LIBRARIES", "train_ours"]

import_deepspeed()
importlib.import_module("transformers.models.llama.modeling_llama")
for package, modules in LIBRARIES.items():
    if importlib.util.find_spec(package) is not None:
        for module in modules:
            importlib.import_module(module)
# What is loaded stays: a collection in a forked process need not read it, which would copy its memory.
gc.collect()
gc.freeze()
