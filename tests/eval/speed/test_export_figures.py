from eval.speed.export_figures import (
    ConverterRow,
    ExportSpeed,
    FormatRow,
    ModelFormats,
    PeerRow,
    PeerSide,
    converter_notes,
)
from eval.speed.figures import Spread


def spread(median: float) -> Spread:
    return Spread(median=median, low=median - 1, high=median + 1)


ROW = FormatRow(
    format="gguf-q8_0",
    size_bytes=2_500_000,
    bits_per_weight=8.5,
    kl_nats=0.00012,
    kl_standard_error_nats=0.00001,
    same_top_token=0.999,
    prompt_tokens_per_s=spread(2000),
    generation_tokens_per_s=spread(100),
    load_s=spread(2),
    memory_bytes=30_000_000,
    write_s=1.25,
    write_bytes=40_000_000,
)
MODEL = ModelFormats(name="Student", described="small", num_parameters=2_160_000, num_tokens=157, rows=(ROW,))
SIDE = PeerSide(elapsed_s=spread(4), peak_bytes=70_000_000, size_bytes=2_500_000, kl_nats=0.00003)
CONVERTER = ConverterRow(
    model="Student",
    file_type="f16",
    ours=SIDE,
    theirs=SIDE,
    speed_ratio=spread(3),
    knows_tokenizer=False,
    num_tensors=38,
    different_tensors=("output.weight",),
    only_ours=("a", "b"),
    only_theirs=(),
    different_values=("c",),
)


def test_a_format_is_a_row_under_its_models_caption():
    text = ExportSpeed(models=(MODEL,), notes=("a note",)).to_markdown()
    assert "**Student** (2.2 M parameters): small; KL on 157 tokens of the assistant." in text
    row = (
        "| gguf-q8_0 | 2.50 | 8.50 | 0.00012 ± 1e-05 | 99.90 % | 2,000 [1,999, 2,001] | 100 [99, 101] |"
        " 2.00 [1.00, 3.00] | 30 | 1.2 | 40 |"
    )
    assert row in text
    assert text.endswith("\n\na note.\n")


def test_the_ratio_stands_in_our_row_only():
    row = PeerRow(model="Student", format="bnb-nf4", peer="transformers", ours=SIDE, theirs=SIDE, speed_ratio=spread(3))
    theirs, ours = row.rows()
    assert theirs == ("Student", "bnb-nf4", "transformers", "4.00 [3.00, 5.00]", "–", "70", "2.50", "3e-05")
    assert (ours[2], ours[4]) == ("distill", "3.00 [2.00, 4.00]")
    assert "| distill |" in ExportSpeed(peers=(row,)).to_markdown()


def test_files_that_differ_are_told_key_by_key_and_once():
    told = converter_notes([CONVERTER, CONVERTER])
    assert told == [
        "The converter knows tokenizers by a hash and refuses these; it was told their names.",
        "Only ours has the keys `a`, `b`.",
        "Other values have `c`.",
        "Other tensors are `output.weight`.",
    ]
    text = ExportSpeed(converters=(CONVERTER,)).to_markdown()
    assert "| 37 of 38 |" in text
    assert told[3] in text
