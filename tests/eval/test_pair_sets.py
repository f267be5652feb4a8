"""Pair sets: what each source prefers to what, and what is held out together."""

from pathlib import Path

import pytest

from distill.data import Message, PreferencePair, write_pairs
from distill.data.personality_chat import PERSONALITIES
from distill.errors import DataError, RecipeError
from distill.settings import validated
from eval.pair_sets import PairSetSettings, fold_of, read_pair_set


def test_embedded_pairs_are_held_out_by_dialogue():
    pairs = read_pair_set(PairSetSettings(source="embedded", num_pairs=20), seed=0)
    assert len(pairs) == 20
    assert all(one.unit == one.cluster == one.pair.id.rpartition(":")[0] for one in pairs)
    assert pairs == read_pair_set(PairSetSettings(source="embedded", num_pairs=20), seed=0)
    folds = {one.unit: fold_of(one, 3) for one in pairs}
    assert all(fold_of(one, 3) == folds[one.unit] for one in pairs)


def test_a_file_of_pairs_is_grouped_by_prompt(tmp_path: Path):
    prompts = [(Message("user", f"q{number // 2}"),) for number in range(12)]
    rows = [PreferencePair(str(number), prompt, "yes", "no") for number, prompt in enumerate(prompts)]
    write_pairs(tmp_path / "pairs.jsonl", rows)
    pairs = read_pair_set(PairSetSettings(source="files", path=tmp_path / "pairs.jsonl"), seed=0)
    assert len({one.unit for one in pairs}) == 6
    write_pairs(tmp_path / "few.jsonl", rows[:9])
    with pytest.raises(DataError, match="files gives 9 pairs"):
        read_pair_set(PairSetSettings(source="files", path=tmp_path / "few.jsonl"), seed=0)


def write_personalities(folder: Path) -> Path:
    """Four scenarios of five questions; the personalities' answers to the last are all alike."""
    for personality in PERSONALITIES:
        blocks = []
        for scenario in range(4):
            asked = "\n".join(f"- question {scenario} {number}" for number in range(1, 6))
            answer = "same" if scenario == 3 else f"{personality} {scenario}"
            blocks.append(f"# ? question {scenario} 0\n{asked}\n\n```markdown\n{answer}\n```\n")
        (folder / f"qna_chitchat_{personality}.qna").write_text("\n".join(blocks))
    return folder


def test_small_talk_is_right_against_another_voice_or_another_scenario(tmp_path: Path):
    pairs = read_pair_set(PairSetSettings(source="personality-chat", path=write_personalities(tmp_path)), seed=1)
    kinds = set()
    for one in pairs:
        assert len(one.pair.prompt) == 2
        if "same" in (one.pair.chosen, one.pair.rejected):
            continue
        voice, scenario = one.pair.chosen.split()
        other_voice, other_scenario = one.pair.rejected.split()
        assert voice in one.pair.prompt[0].content
        assert (voice == other_voice) != (scenario == other_scenario)
        kinds.add(voice == other_voice)
    assert kinds == {True, False}
    assert len({one.cluster for one in pairs}) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "embedded"}, "source embedded reads no path and needs num_pairs"),
        ({"source": "files"}, "path is missing: source files reads a folder or file"),
    ],
)
def test_a_set_names_its_place(values: dict[str, object], message: str):
    with pytest.raises(RecipeError, match=message):
        validated(PairSetSettings, values, source="recipe")
