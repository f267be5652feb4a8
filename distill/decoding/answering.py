"""Whatever answers chats with weights loaded here: plainly, or steered by a principle."""

from distill.decoding.generate import Generator, TransformersGenerator
from distill.decoding.linear_alignment import LinearAlignmentGenerator, LinearAlignmentSettings
from distill.models.load import LoadedModel


def answering(loaded: LoadedModel, alignment: LinearAlignmentSettings | None) -> Generator:
    """The generator of a loaded model, steered where `alignment` is given."""
    return TransformersGenerator(loaded) if alignment is None else LinearAlignmentGenerator(loaded, alignment)
