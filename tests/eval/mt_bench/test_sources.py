from pathlib import Path

from distill.files import sha256_of_file
from eval.mt_bench.sources import GITHUB_URL, HUB_URL, SOURCES

PUBLIC_NAMES = {
    "question.jsonl": "official/mt_bench/question.jsonl",
    "judge_prompts.jsonl": "official/judge_prompts.jsonl",
    "reference_answer/gpt-4.jsonl": "official/mt_bench/reference_answer/gpt-4.jsonl",
    "reference_answer/gpt-4-0125-preview.jsonl": "corrected/gpt-4-0125-preview.jsonl",
    "inflection/question.jsonl": "corrected/mt_bench_inf.jsonl",
    "human_judgments/human.jsonl": "human_judgments/human.jsonl",
    "human_judgments/gpt4_pair.jsonl": "human_judgments/gpt4_pair.jsonl",
}


def test_the_checksums_are_those_of_the_public_files(public_mt_bench: Path):
    assert {source.target: source.sha256 for source in SOURCES} == {
        target: sha256_of_file(public_mt_bench / name) for target, name in PUBLIC_NAMES.items()
    }


def test_every_home_is_pinned_to_a_commit():
    homes = [home for source in SOURCES for home in source.homes]
    assert all(len(home.commit) == 40 for home in homes)
    addresses = [home.url(github_url=GITHUB_URL, hub_url=HUB_URL) for home in homes]
    assert all(home.commit in address for home, address in zip(homes, addresses, strict=True))
    assert len(set(addresses)) == len(addresses)
    assert homes[0].name == "github:lm-sys/FastChat@0e6d3e4beaab"
