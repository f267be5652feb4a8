"""Models that end in one number: a decoder whose last token's state goes through a linear map to a single output."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.data.packing import batches_by_length
from distill.errors import ModelError
from distill.files import fingerprint
from distill.models.adapters import LanguageModel, without_adapters
from distill.models.load import DTYPES, DtypeName, LoadedModel, require_chat_template, resolved_device
from distill.models.quiet import quietly
from distill.models.source import find_source
from distill.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_scalar_head(
    folder_or_id: str | Path, *, dtype: DtypeName = "float32", device: str = "auto", revision: str | None = None
) -> LoadedModel:
    """Loads a sequence classifier with one label and a `score` head, from safetensors; no code from it ever runs.

    Raises:
        ModelError: it is missing, damaged or pickled, has no chat template, has no trained `score` head, or has more
            than one label.
    """
    from transformers import AutoModelForSequenceClassification

    source = find_source(folder_or_id, revision=revision)
    if source.kind != "model":
        raise ModelError(
            f"{source.name} holds {'adapters' if source.kind == 'adapter' else 'a GGUF'}, no whole reward model",
            why="a scalar head is read from a sequence-classification checkpoint only",
            fix="merge the adapters and save the whole model",
        )
    tokenizer = load_tokenizer(source.folder)
    require_chat_template(tokenizer, source.folder)
    try:
        with quietly():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                str(source.folder),
                dtype=DTYPES[dtype],
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the reward model in {source.folder} cannot be built", why=why) from error
    _require_one_trained_label(model, set(found["missing_keys"]), source.folder)
    return LoadedModel(
        model.to(resolved_device(device)).eval(), tokenizer, source.name, fingerprint([source.fingerprint, dtype])
    )


def with_scalar_head(model: LanguageModel, weight: Float[Tensor, " hidden"]) -> "PreTrainedModel":
    """The same body, by reference, under a head of the given weights: a sequence classifier with one label.

    Raises:
        ModelError: transformers has no sequence classifier of this family, or not one of this shape.
    """
    from transformers import AutoModelForSequenceClassification

    whole = without_adapters(model)
    config = copy.deepcopy(whole.config)
    config.num_labels = 1
    try:
        with torch.device("meta"), quietly():
            classifier: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise _of_another_shape(config.model_type) from error
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        raise _of_another_shape(config.model_type)
    head = nn.Linear(weight.shape[0], 1, bias=False, dtype=whole.dtype, device=whole.device)
    head.weight.data.copy_(weight.unsqueeze(0))
    classifier.score = head
    setattr(classifier, classifier.base_model_prefix, whole.base_model)
    return classifier.eval()


def scalar_head(model: LanguageModel) -> Float[Tensor, " hidden"]:
    """The head's weights."""
    return cast(nn.Linear, without_adapters(model).score).weight[0].detach()


@torch.no_grad()
def last_token_states(
    model: LanguageModel, rows: Sequence[Sequence[int]], *, max_tokens: int = 16_384, max_rows: int = 64
) -> Float[Tensor, "rows hidden"]:
    """The body's state at each row's last token, what a scalar head sees; on the CPU, in the order of the rows.

    Rows are read in batches of like length, padded on their right, where no real token sees it; the last token is
    found by the row's length, not by looking for a padding id, which may be the end token's.

    Args:
        model: a language model or a sequence classifier, in evaluation mode.
        rows: token ids, none empty.
        max_tokens: of a batch, its padding included.
        max_rows: of a batch.
    """
    whole = without_adapters(model)
    states: list[Tensor] = [torch.empty(0)] * len(rows)
    for batch in batches_by_length([len(row) for row in rows], max_tokens=max_tokens, max_rows=max_rows):
        width = len(rows[batch[0]])
        input_ids = torch.tensor([[*rows[index], *[0] * (width - len(rows[index]))] for index in batch])
        lengths = torch.tensor([len(rows[index]) for index in batch])
        mask = (torch.arange(width) < lengths.unsqueeze(1)).long()
        output = whole.base_model(
            input_ids=input_ids.to(whole.device), attention_mask=mask.to(whole.device), use_cache=False
        )
        last = output.last_hidden_state[torch.arange(len(batch)), lengths - 1].cpu()
        for index, state in zip(batch, last, strict=True):
            states[index] = state
    return torch.stack(states)


def _require_one_trained_label(model: "PreTrainedModel", missing: set[str], folder: Path) -> None:
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise _of_another_shape(model.config.model_type)
    if model.config.num_labels != 1:
        raise ModelError(
            f"the model in {folder} has {model.config.num_labels} labels",
            why="a reward is one number",
            fix="name a reward model with one label",
        )
    if missing:
        raise ModelError(
            f"{folder} holds no weights for {sorted(missing)[0]}",
            why="it would be random: this is no reward model",
            fix="name a model that was saved as a sequence classifier with one label",
        )


def _of_another_shape(model_type: str) -> ModelError:
    return ModelError(
        f"family {model_type} has no sequence classifier with one linear `score` over the last token",
        why="rewards of other shapes are not known here; they would be read wrongly",
        fix="use a decoder of another family (llama, qwen2, gemma2, mistral ...)",
    )
