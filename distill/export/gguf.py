"""A checkpoint folder written as one GGUF file for llama.cpp."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from distill.errors import DataError, ExportError
from distill.export.gguf_layout import Layout, gguf_name, layout_of, with_rows_for_llama_cpp
from distill.export.gguf_vocabulary import Vocabulary, read_vocabulary
from distill.files import read_json, replacing_file

FileType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
_QuantType = gguf.GGMLQuantizationType

_FILE_TYPES: dict[FileType, gguf.LlamaFileType] = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
    "q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
_LARGEST_F16 = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class GgufReport:
    """What was written: how many tensors of each storage type, and the file's real density."""

    path: Path
    file_type: FileType
    num_tensors_by_type: dict[str, int]
    bits_per_weight: float


def write_gguf(folder: Path, path: Path, *, file_type: FileType) -> GgufReport:
    """Writes the checkpoint in `folder` (safetensors, config.json, tokenizer.json) to `path`, whole or not at all.

    Norms and biases stay float32. In the 4- and 5-bit types the embedding and the head are stored as q8_0: in a
    small model they hold much of what it knows. A matrix whose rows no block divides is stored as float16; the
    report counts each type. The same folder gives the same bytes.

    Raises:
        ExportError: the model or its tokenizer has no counterpart in llama.cpp, a tensor is missing, unknown or
            not finite.
    """
    layout, sources = _layout_and_sources(folder)
    vocabulary = read_vocabulary(folder, vocab_size=layout.vocab_size)
    with replacing_file(path) as partial:
        writer = gguf.GGUFWriter(partial, layout.family.architecture)
        try:
            _add_settings(writer, layout, file_type=file_type)
            _add_vocabulary(writer, vocabulary)
            types = _write_tensors(writer, sources, layout, file_type=file_type)
        finally:
            writer.close()
    num_weights = sum(source.num_weights for source in sources)
    bits = sum(8 * _stored_bytes(source.shape, types[source.name]) for source in sources)
    histogram = Counter(kind.name for kind in types.values())
    return GgufReport(path, file_type, dict(sorted(histogram.items())), bits / num_weights)


@dataclass(frozen=True)
class _Source:
    """One tensor of the checkpoint, still on disk."""

    name: str
    file: Path
    shape: tuple[int, ...]

    @property
    def num_weights(self) -> int:
        return math.prod(self.shape)

    def load(self) -> NDArray[np.float32]:
        with safe_open(self.file, framework="pt") as handle:
            values: NDArray[np.float32] = handle.get_tensor(self.name).float().numpy()
        if not np.isfinite(values).all():
            raise ExportError(f"tensor {self.name} holds values that are not finite", why="the model is broken")
        return values


def _layout_and_sources(folder: Path) -> tuple[Layout, list[_Source]]:
    """The checkpoint's shape and its tensors sorted by name, complete; a tied head's copy is left out."""
    try:
        layout = layout_of(read_json(folder / "config.json"))
        sources = [source for file in sorted(folder.glob("*.safetensors")) for source in _sources_in(file)]
    except (DataError, SafetensorError) as error:
        raise ExportError(f"{folder} is not a readable checkpoint: {error}", fix="export it again") from error
    if layout.has_tied_head:
        sources = [source for source in sources if source.name != "lm_head.weight"]
    missing = layout.expected_names - {source.name for source in sources}
    if missing:
        raise ExportError(f"{folder} lacks tensor {min(missing)}", why="llama.cpp needs it", fix="save the whole model")
    for source in sources:
        gguf_name(source.name, layout)
    return layout, sorted(sources, key=lambda source: source.name)


def _sources_in(file: Path) -> Iterator[_Source]:
    with safe_open(file, framework="pt") as handle:
        for name in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            yield _Source(name, file, tuple(handle.get_slice(name).get_shape()))


def _add_settings(writer: gguf.GGUFWriter, layout: Layout, *, file_type: FileType) -> None:
    writer.add_type("model")
    writer.add_file_type(_FILE_TYPES[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(layout.vocab_size)
    writer.add_context_length(layout.max_length_tokens)
    writer.add_embedding_length(layout.hidden_size)
    writer.add_block_count(layout.num_layers)
    writer.add_feed_forward_length(layout.intermediate_size)
    writer.add_head_count(layout.num_heads)
    writer.add_head_count_kv(layout.num_key_value_heads)
    writer.add_key_length(layout.head_dim)
    writer.add_value_length(layout.head_dim)
    writer.add_layer_norm_rms_eps(layout.norm_epsilon)
    writer.add_rope_dimension_count(layout.head_dim)
    layout.rope.add_to(writer)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.token_types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.eos_id)
    for index, add in (
        (vocabulary.eot_id, writer.add_eot_token_id),
        (vocabulary.eom_id, writer.add_eom_token_id),
        (vocabulary.bos_id, writer.add_bos_token_id),
        (vocabulary.pad_id, writer.add_pad_token_id),
    ):
        if index is not None:
            add(index)
    # The template writes all that a chat has; what a tokenizer adds around plain text would come on top of it.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(vocabulary.chat_template)


def _write_tensors(
    writer: gguf.GGUFWriter, sources: list[_Source], layout: Layout, *, file_type: FileType
) -> dict[str, gguf.GGMLQuantizationType]:
    """Writes header and tensors, one tensor in memory at a time; returns each one's storage type."""
    types = {source.name: _storage_type(source, file_type) for source in sources}
    factors = layout.rope.frequency_factors(layout.head_dim)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes, _QuantType.F32)
    for source in sources:
        size_bytes = _stored_bytes(source.shape, types[source.name])
        dtype = np.dtype(np.float32)  # with a type given, only uint8 would change how the shape is read
        writer.add_tensor_info(gguf_name(source.name, layout), source.shape, dtype, size_bytes, types[source.name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for source in sources:
        kind = types[source.name]
        values = source.load()
        if kind == _QuantType.F16 and np.abs(values).max(initial=0.0) > _LARGEST_F16:
            raise ExportError(f"tensor {source.name} exceeds float16's range", fix="export gguf-bf16 instead")
        rows = np.ascontiguousarray(with_rows_for_llama_cpp(values, source.name, layout))
        writer.write_tensor_data(gguf.quantize(rows, kind))
    return types


def _storage_type(source: _Source, file_type: FileType) -> gguf.GGMLQuantizationType:
    if len(source.shape) == 1:
        return _QuantType.F32
    is_outer = source.name in ("model.embed_tokens.weight", "lm_head.weight")
    kind = _QuantType.Q8_0 if is_outer and file_type[:2] in ("q4", "q5") else _QuantType[file_type.upper()]
    block_size, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if source.shape[-1] % block_size == 0 else _QuantType.F16


def _stored_bytes(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> int:
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return math.prod(shape) // int(block_size) * int(block_bytes)
