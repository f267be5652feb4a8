"""Whether a student's weights can be trained as its settings ask, found out before anything is built around it."""

from distill.errors import RecipeError
from distill.models import LoadedModel, has_adapters, quantization_of
from distill.training.engine import memory_plan, zero_stage
from distill.training.settings import TrainSettings


def require_trainable(student: LoadedModel, settings: TrainSettings) -> None:
    """Refuses a student of which nothing, or not what was meant, would learn.

    Raises:
        RecipeError: its weights are packed in 8 bits, or in 4 without adapters beside them, or ZeRO-3 would have to cut
            packed weights; all its weights are frozen; or its tokenizer has more tokens than its embedding has rows.
    """
    quantization = quantization_of(student.model)
    if quantization == "int8":
        raise RecipeError(
            "student.quantization is int8, and the student is to be trained",
            why="int8 products round the activations too, so no merged weights would say what was trained",
            fix="student.quantization=nf4 (QLoRA), or leave it out",
        )
    if quantization is not None and not has_adapters(student.model):
        raise RecipeError(
            f"student.quantization is {quantization}, and the student has no adapters",
            why="packed weights cannot be changed a little at a time; only norms and embeddings would learn",
            fix="student.lora={rank: 16}, or leave student.quantization out",
        )
    if quantization is not None and zero_stage(memory_plan(settings)) == 3:
        raise RecipeError(
            f"student.quantization is {quantization}, and {settings.deepspeed} is ZeRO stage 3",
            why="that stage cuts matrices into pieces, and a piece of packed 4-bit weights cannot be multiplied",
            fix="a plan of stage 1 or 2, such as ds_configs/zero2_bf16.json: they spread the adapters' optimizer",
        )
    if not any(parameter.requires_grad for parameter in student.model.parameters()):
        raise RecipeError(
            f"no weight of the student {student.source} learns",
            why="all of them are frozen",
            fix="student.lora={rank: 16}, or load it with its weights unfrozen",
        )
    _require_rows(student)


def _require_rows(student: LoadedModel) -> None:
    """New rows of embedding and head would be random, and the caches' token ids mean nothing to them."""
    embeddings = student.model.get_input_embeddings()
    # The largest id and not the number of tokens: ids may have holes.
    num_tokens = 1 + max(int(token_id) for token_id in student.tokenizer.get_vocab().values())
    num_rows = int(getattr(embeddings, "num_embeddings", num_tokens))
    if num_tokens > num_rows:
        raise RecipeError(
            f"the student's tokenizer has {num_tokens} tokens, its embedding {num_rows} rows",
            why="embeddings are not resized here: new rows would be random, and neither the reference's nor the"
            " teacher's scores are about them",
            fix="train a model that has rows for all its tokens, or take the added tokens out of the tokenizer",
        )
