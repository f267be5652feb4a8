from distill.data import read_conversations, read_pairs
from distill.pipeline.manifest import read_manifest
from distill.pipeline.run_folder import RunFolder


def test_every_prompt_gives_one_pair_or_one_reason(finished: RunFolder):
    summary = read_manifest(finished.stage("pairs")).summary
    pairs = read_pairs(finished.stage("pairs") / "pairs.jsonl")
    dropped = sum(value for name, value in summary.items() if name.endswith("_dropped"))
    assert summary["num_pairs"] == len(pairs) > 0
    assert summary["num_pairs"] + dropped == summary["num_asked"] == 3


def test_a_pair_answers_the_last_turn_of_its_prompt(finished: RunFolder):
    asked = {row.id: row.user_turns[-1] for row in read_conversations(finished.conversations("prompts"))}
    for pair in read_pairs(finished.stage("pairs") / "pairs.jsonl"):
        assert pair.prompt[-1] == asked[pair.id.rpartition(":")[0]]
        assert pair.chosen != pair.rejected
