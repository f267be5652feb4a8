"""The merged model with its linear layers in bitsandbytes' 4-bit NormalFloat or 8-bit integers."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from distill.export.reload import largest_difference, probe_logits
from distill.export.tensor_files import stored_dtype
from distill.models import DTYPES, LanguageModel, Quantization, computing_in, load_model, save_model, without_adapters


def write_bitsandbytes(merged_folder: Path, folder: Path, *, quantization: Quantization) -> float:
    """Quantizes the model in `merged_folder` and writes it to `folder`; the embedding and the head stay as they are.

    It is saved before its first forward: on CPUs with AVX512_BF16 that forward repacks 4-bit weights in place, and
    what is saved afterwards is garbage (bitsandbytes 0.49.2 to 0.50.2). One model at a time is in memory.

    Returns:
        The largest absolute difference of logits between the quantized model in memory and the one reloaded.

    Raises:
        ModelError: the model cannot be loaded or quantized.
        ExportError: the reloaded model differs.
    """
    expected = _saved_logits(merged_folder, folder, quantization=quantization)
    reloaded = probe_logits(load_model(folder).model)
    return largest_difference(expected, reloaded, what="the model reloaded from disk")


def _saved_logits(
    merged_folder: Path, folder: Path, *, quantization: Quantization
) -> Float[Tensor, "batch sequence vocab"]:
    """Quantizes, saves, and returns what the model in memory says, computed in float32."""
    quantized = load_model(merged_folder, dtype=stored_dtype(merged_folder), quantization=quantization)
    save_model(quantized.model, quantized.tokenizer, folder)
    model: LanguageModel = computing_in(without_adapters(quantized.model), DTYPES["float32"])
    return probe_logits(model)
