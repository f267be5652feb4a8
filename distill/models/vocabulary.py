"""Whether two tokenizers speak of the same tokens."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "It's 12:30 - that's $4.50, naïve café!\n\n  Two  spaces\tand 日本語 🙂 I'LL be BACK. <b>ok</b>"


def same_vocabulary(first: "PreTrainedTokenizerBase", second: "PreTrainedTokenizerBase") -> str | None:
    """`None` where both map every text to the same ids; else the reason why distributions cannot be compared."""
    ours, theirs = first.get_vocab(), second.get_vocab()
    if len(ours) != len(theirs):
        return f"{len(ours)} tokens against {len(theirs)}"
    differing = [token for token, index in ours.items() if theirs.get(token) != index]
    if differing:
        token = min(differing, key=ours.__getitem__)
        return f"token {token!r} has id {ours[token]} in one and {theirs.get(token)} in the other"
    if first.encode(_PROBE, add_special_tokens=False) != second.encode(_PROBE, add_special_tokens=False):
        return "the same tokens, but text is cut differently"
    return None
