"""llama.cpp's own converter, `convert_hf_to_gguf.py`, and our GGUF writer on one folder, in processes of their own.

The converter lies in llama.cpp's sources, and in those that llama-cpp-python is built from:

    pip download --no-deps --no-binary :all: llama-cpp-python
    tar -xzf llama_cpp_python-*.tar.gz && pip install sentencepiece
    export DISTILL_LLAMA_CPP=$PWD/$(echo llama_cpp_python-*/vendor/llama.cpp)
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import DistillError
from distill.process import own_environment

VARIABLE = "DISTILL_LLAMA_CPP"
SCRIPT = "convert_hf_to_gguf.py"
FILE_TYPES = ("f16", "q8_0")
"""Of ours that the converter writes too, those on the clock."""

# The converter knows tokenizers by a hash and refuses others; those get the name that ours found, and a line says so.
_NAMED = "the name of the pre-tokenizer was given"
_CONVERTER = f"""
import runpy, sys
folder, name, *arguments = sys.argv[1:]
sys.path[:1] = [folder, folder + "/gguf-py"]
from conversion.base import TextModel
known = TextModel.get_vocab_base_pre
def named(self, tokenizer):
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        print({_NAMED!r})
        return name
TextModel.get_vocab_base_pre = named
sys.argv = [folder + "/{SCRIPT}", *arguments]
runpy.run_path(sys.argv[0], run_name="__main__")
from distill.memory import peak_bytes
print(peak_bytes())
"""
_OURS = """
import sys
from pathlib import Path
from distill.export.gguf import write_gguf
write_gguf(Path(sys.argv[1]), Path(sys.argv[2]), file_type=sys.argv[3])
from distill.memory import peak_bytes
print(peak_bytes())
"""


@dataclass(frozen=True)
class Conversion:
    """A process from its start to its end, imports included, and the most memory it held.

    `knows_tokenizer` is False where the converter had to be told how the tokenizer cuts text.
    """

    elapsed_s: float
    peak_bytes: int
    knows_tokenizer: bool = True


def converter_folder(path: Path | None) -> Path | None:
    """The folder of the converter: `path`, else what the environment variable names, else None.

    Raises:
        DistillError: there is no converter.
    """
    if path is None and VARIABLE in os.environ:
        path = Path(os.environ[VARIABLE])
    if path is None:
        return None
    folder = path.parent if path.name == SCRIPT else path
    missing = next((part for part in (SCRIPT, "conversion/base.py", "gguf-py") if not (folder / part).exists()), None)
    if missing is not None:
        raise DistillError(
            f"{folder} has no {missing}", why="it is not llama.cpp's source folder", fix=f"name one that holds {SCRIPT}"
        )
    return folder.absolute()


def converted(converter: Path, model: Path, path: Path, *, file_type: str, pre_tokenizer: str) -> Conversion:
    """llama.cpp's converter in a fresh process.

    Args:
        converter: its folder.
        model: what it reads.
        path: the file it writes.
        file_type: `f32`, `f16`, `bf16` or `q8_0`.
        pre_tokenizer: what it is told where it does not know the tokenizer.

    Raises:
        DistillError: it fails; quotes its last line.
    """
    arguments = [str(converter), pre_tokenizer, str(model), "--outfile", str(path), "--outtype", file_type]
    return _run(_CONVERTER, arguments, name="llama.cpp's converter")


def written_alone(model: Path, path: Path, *, file_type: str) -> Conversion:
    """Our writer in a fresh process.

    Raises:
        DistillError: it fails.
    """
    return _run(_OURS, [str(model), str(path), file_type], name="our writer")


def _run(program: str, arguments: Sequence[str], *, name: str) -> Conversion:
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=own_environment(),
    )
    elapsed_s = time.perf_counter() - started
    last = (process.stdout.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    if process.returncode:
        raise DistillError(f"{name} fails", why=last, fix=_fix(last))
    return Conversion(elapsed_s, int(last), knows_tokenizer=_NAMED not in process.stdout)


def _fix(last_line: str) -> str:
    """What to type where a package of the converter's is missing."""
    return (
        f"pip install {last_line.split(chr(39))[1]}" if last_line.startswith("ModuleNotFoundError: No module") else ""
    )
