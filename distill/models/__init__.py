"""One face for every causal language model, through transformers."""

from distill.models.adapters import (
    LanguageModel,
    LoraSettings,
    add_lora,
    has_adapters,
    let_adapters_learn,
    without_adapters,
)
from distill.models.distributed import is_partitioned
from distill.models.head import final_hidden_states, output_head
from distill.models.lending import WeightOf, is_plain, lending_weights, without_memory
from distill.models.load import DTYPES, DtypeName, LoadedModel, load_model, model_fingerprint, resolved_device
from distill.models.lora_deltas import LoraDeltas, why_not_plain_lora
from distill.models.prune import PruneSettings, prune
from distill.models.quantized import (
    Quantization,
    computing_in,
    is_quantized,
    quantization_of,
    recorded_base,
    unpack_linears,
)
from distill.models.quiet import name_deepspeed_accelerator
from distill.models.save import folder_size_bytes, make_readable, save_model, save_tokenizer, save_without_weights
from distill.models.scratch import ScratchSettings, new_model
from distill.models.settings import ModelSettings, load
from distill.models.size import count_parameters
from distill.models.source import ModelSource, adapter_base, find_source
from distill.models.stopping import end_ids, set_special_ids
from distill.models.student import StudentModule
from distill.models.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from distill.models.vocabulary import same_vocabulary

__all__ = [
    "DTYPES",
    "DtypeName",
    "LanguageModel",
    "LoadedModel",
    "LoraDeltas",
    "LoraSettings",
    "ModelSettings",
    "ModelSource",
    "PruneSettings",
    "Quantization",
    "ScratchSettings",
    "StudentModule",
    "Tokenizer",
    "WeightOf",
    "adapter_base",
    "add_lora",
    "computing_in",
    "count_parameters",
    "end_ids",
    "final_hidden_states",
    "find_source",
    "folder_size_bytes",
    "has_adapters",
    "is_partitioned",
    "is_plain",
    "is_quantized",
    "lending_weights",
    "let_adapters_learn",
    "load",
    "load_model",
    "load_tokenizer",
    "make_readable",
    "model_fingerprint",
    "name_deepspeed_accelerator",
    "new_model",
    "output_head",
    "prune",
    "quantization_of",
    "recorded_base",
    "resolved_device",
    "same_vocabulary",
    "save_model",
    "save_tokenizer",
    "save_without_weights",
    "set_special_ids",
    "train_tokenizer",
    "unpack_linears",
    "why_not_plain_lora",
    "without_adapters",
    "without_memory",
]
