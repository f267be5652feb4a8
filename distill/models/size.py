"""How many parameters a model has."""

from distill.models.adapters import LanguageModel


def count_parameters(model: LanguageModel) -> int:
    """Parameters of a model; a matrix that two modules share (tied embeddings) counts once.

    4-bit weights count as the weights they stand for.
    """
    return int(model.num_parameters())
