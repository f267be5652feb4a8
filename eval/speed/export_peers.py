"""What others write of the same model, in turn with ours: transformers' bitsandbytes, llama.cpp's converter."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from distill.errors import DistillError
from distill.export.gguf_vocabulary import read_vocabulary
from distill.files import read_json
from distill.models import Quantization
from eval.speed import export_jobs
from eval.speed.clock import shares, spread
from eval.speed.export_converter import FILE_TYPES, converted, written_alone
from eval.speed.export_differences import differences
from eval.speed.export_figures import ConverterRow, PeerRow, PeerSide
from eval.speed.export_jobs import Written
from eval.speed.export_rounds import Subject
from eval.speed.figures import Spread

QUANTIZATIONS: dict[str, Quantization] = {"bnb-nf4": "nf4", "bnb-int8": "int8"}
OURS, THEIRS = "ours", "theirs"


class Timed(Protocol):
    """One process's work."""

    @property
    def elapsed_s(self) -> float:
        """Of the work."""

    @property
    def peak_bytes(self) -> int:
        """Of memory."""


AnyTimed = TypeVar("AnyTimed", bound=Timed)


def peer_rows(subject: Subject) -> list[PeerRow]:
    """bitsandbytes' formats by us and by transformers alone."""
    return [_peer_row(subject, name, quantization) for name, quantization in QUANTIZATIONS.items()]


def converter_rows(subject: Subject, converter: Path) -> list[ConverterRow]:
    """GGUF by us and by llama.cpp's converter, and the difference between the last two files."""
    return [_converter_row(subject, converter, file_type) for file_type in FILE_TYPES]


def _peer_row(subject: Subject, name: str, quantization: Quantization) -> PeerRow:
    folders = {side: subject.folder / f"{name}-{side}" for side in (THEIRS, OURS)}
    threads = subject.num_threads
    theirs = partial(
        export_jobs.written_by_transformers, quantization, subject.merged, folders[THEIRS], num_threads=threads
    )
    ours = partial(export_jobs.written, name, subject.merged, folders[OURS], num_threads=threads)
    runs = in_turn({THEIRS: theirs, OURS: ours}, num_repeats=subject.num_repeats, remove=folders)
    sides = {
        side: _side(runs[side], size_bytes=runs[side][0].size_bytes, kl_nats=subject.distance(folder).kl_nats)
        for side, folder in folders.items()
    }
    _remove(folders.values())
    return PeerRow(
        model=subject.name,
        format=name,
        peer="transformers",
        ours=sides[OURS],
        theirs=sides[THEIRS],
        speed_ratio=_ratio(runs),
    )


def _converter_row(subject: Subject, converter: Path, file_type: str) -> ConverterRow:
    paths = {side: subject.folder / f"{side}-{file_type}.gguf" for side in (THEIRS, OURS)}
    merged = subject.merged
    vocab_size = int(str(read_json(merged / "config.json")["vocab_size"]))
    pre_tokenizer = read_vocabulary(merged, vocab_size=vocab_size).pre
    theirs = partial(converted, converter, merged, paths[THEIRS], file_type=file_type, pre_tokenizer=pre_tokenizer)
    ours = partial(written_alone, merged, paths[OURS], file_type=file_type)
    runs = in_turn({THEIRS: theirs, OURS: ours}, num_repeats=subject.num_repeats, remove=paths)
    found = differences(paths[OURS], paths[THEIRS])
    sides = {side: _side(runs[side], size_bytes=path.stat().st_size) for side, path in paths.items()}
    _remove(paths.values())
    return ConverterRow(
        model=subject.name,
        file_type=file_type,
        ours=sides[OURS],
        theirs=sides[THEIRS],
        speed_ratio=_ratio(runs),
        knows_tokenizer=runs[THEIRS][0].knows_tokenizer,
        num_tensors=found.num_tensors,
        different_tensors=found.tensors,
        only_ours=found.only_first,
        only_theirs=found.only_second,
        different_values=found.values,
    )


def in_turn(
    runs: Mapping[str, Callable[[], AnyTimed]], *, num_repeats: int, remove: Mapping[str, Path]
) -> dict[str, list[AnyTimed]]:
    """Each run `num_repeats` times in turn; what one has written is removed before it runs again.

    Raises:
        DistillError: one cannot do its work.
    """
    done: dict[str, list[AnyTimed]] = {name: [] for name in runs}
    for _ in range(num_repeats):
        for name, run in runs.items():
            _remove([remove[name]])
            found = run()
            if isinstance(found, Written) and found.refusal is not None:
                raise DistillError(f"{name}: {found.refusal}", why="there is nothing to compare")
            done[name].append(found)
    return done


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _side(runs: Sequence[Timed], *, size_bytes: int, kl_nats: float | None = None) -> PeerSide:
    return PeerSide(
        elapsed_s=spread([run.elapsed_s for run in runs]),
        peak_bytes=max(run.peak_bytes for run in runs),
        size_bytes=size_bytes,
        kl_nats=kl_nats,
    )


def _ratio(runs: Mapping[str, Sequence[Timed]]) -> Spread:
    """The peer's seconds over ours, round by round."""
    ours, theirs = ([run.elapsed_s for run in runs[side]] for side in (OURS, THEIRS))
    return shares(ours, theirs)
