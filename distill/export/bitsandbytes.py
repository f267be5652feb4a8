"""The merged model with its linear layers in bitsandbytes' 4-bit NormalFloat or 8-bit integers."""

from pathlib import Path

from distill.export.reload import largest_difference, probe_logits
from distill.models import Quantization, load_model, save_model


def write_bitsandbytes(merged_folder: Path, folder: Path, *, quantization: Quantization) -> float:
    """Quantizes the model in `merged_folder` and writes it to `folder`; the embedding and the head stay as they are.

    It is saved before its first forward: on CPUs with AVX512_BF16 that forward repacks 4-bit weights in place, and
    what is saved afterwards is garbage (bitsandbytes 0.49.2 to 0.50.2).

    Returns:
        The largest absolute difference of logits between the quantized model in memory and the one reloaded.

    Raises:
        ModelError: the model cannot be loaded or quantized.
        ExportError: the reloaded model differs.
    """
    quantized = load_model(merged_folder, dtype="float32", quantization=quantization)
    save_model(quantized.model, quantized.tokenizer, folder)
    reloaded = load_model(folder, dtype="float32")
    return largest_difference(
        probe_logits(quantized.model), probe_logits(reloaded.model), what="the model reloaded from disk"
    )
