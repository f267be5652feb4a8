"""The pairs as TRL reads them: rows of text or ids, and a tokenizer of one word an id."""

from pathlib import Path
from typing import Any

from distill.data import TokenizedPair
from eval.speed.train_work import END_ID, PAD_ID, UNKNOWN_ID

SPECIAL_WORDS = {"<pad>": PAD_ID, "<unk>": UNKNOWN_ID, "</s>": END_ID}


def dpo_rows(pairs: list[TokenizedPair]) -> list[dict[str, Any]]:
    """The pairs as text, for TRL tokenizes itself."""
    return [
        {
            "prompt": text_of(pair.chosen.prompt_ids),
            "chosen": " " + text_of(pair.chosen.completion_ids),
            "rejected": " " + text_of(pair.rejected.completion_ids),
        }
        for pair in pairs
    ]


def gkd_rows(pairs: list[TokenizedPair]) -> list[dict[str, Any]]:
    """Every answer with its prompt, as ids."""
    return [
        {
            "prompt": text_of(answer.prompt_ids),
            "input_ids": [*answer.prompt_ids, *answer.completion_ids],
            "completion_mask": [0] * len(answer.prompt_ids) + [1] * len(answer.completion_ids),
        }
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]


def text_of(ids: tuple[int, ...]) -> str:
    """Words that `word_tokenizer` reads as these ids."""
    special = {number: word for word, number in SPECIAL_WORDS.items()}
    return " ".join(special.get(number, f"w{number}") for number in ids)


def word_tokenizer(vocab_size: int) -> Any:
    """A tokenizer of one word an id, so that a text is the ids it is made of."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = SPECIAL_WORDS | {f"w{number}": number for number in range(len(SPECIAL_WORDS), vocab_size)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=4096
    )


def dataset(rows: Any) -> Any:
    """The rows as a data set; one that is a data set already stays as it is."""
    from datasets import Dataset

    return Dataset.from_list(rows) if isinstance(rows, list) else rows


def on_disk(rows: list[dict[str, Any]], folder: Path) -> Any:
    """The rows as a data set with a cache on disk, which is where TRL could find its own work again."""
    from datasets import Dataset, load_dataset

    path = folder / "pairs.parquet"
    if not path.exists():
        Dataset.from_list(rows).to_parquet(str(path))
    return load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(folder / "datasets"))
