"""Where MT-Bench's public files are: address, commit, licence and sha256 of each; none of them is shipped.

Every file has a checksum. The hub's Parquet files of votes have none of their own: what is checked is the table of
labels made from them, which is the same bytes as the copy on GitHub.
"""

from dataclasses import dataclass
from typing import Literal

GITHUB_URL = "https://raw.githubusercontent.com"
HUB_URL = "https://huggingface.co"

VOTES_DATA_SET = "lmsys/mt_bench_human_judgments"
VOTES_REVISION = "f7d2896d2cc5d80f8b55c2bbc722613555233c25"

FASTCHAT = ("lm-sys/FastChat", "0e6d3e4beaab66f4d3f93db72541a4abab8af28d")
JUDGE_DATA = "fastchat/llm_judge/data"


@dataclass(frozen=True)
class Home:
    """One place a file can be had from; `path` is below the commit of a repository or of a data set of the hub."""

    site: Literal["github", "hub"]
    repository: str
    commit: str
    path: str

    def url(self, *, github_url: str, hub_url: str) -> str:
        """The address of the file's bytes."""
        if self.site == "github":
            return f"{github_url}/{self.repository}/{self.commit}/{self.path}"
        return f"{hub_url}/datasets/{self.repository}/resolve/{self.commit}/{self.path}"

    @property
    def name(self) -> str:
        """For people: site, repository and commit."""
        return f"{self.site}:{self.repository}@{self.commit[:12]}"


@dataclass(frozen=True)
class Source:
    """One file of the benchmark's folder.

    Attributes:
        target: its path in the benchmark's folder.
        what: what it is, for people.
        licence: of its text.
        sha256: of its bytes, once it stands in the folder.
        homes: where to ask, in this order.
        names: how its path ends in a folder that somebody else made; one with a leading `/` is the path itself.
    """

    target: str
    what: str
    licence: str
    sha256: str
    homes: tuple[Home, ...]
    names: tuple[str, ...]


def _votes(name: str, parquet: str, what: str, sha256: str) -> Source:
    snapshot = ("aliabbas-muhammadi/judgelab", "afdf0eaa55fdee9617bbc4d1821e5424b18f33ff")
    return Source(
        f"human_judgments/{name}.jsonl",
        what,
        "CC-BY-4.0, LMSYS Org, Zheng et al. 2023",
        sha256,
        (
            Home("hub", VOTES_DATA_SET, VOTES_REVISION, f"data/{parquet}"),
            Home("github", *snapshot, f"data/snapshots/mtbench/{name}.jsonl"),
        ),
        (f"human_judgments/{name}.jsonl", f"mtbench/{name}.jsonl"),
    )


SOURCES: tuple[Source, ...] = (
    Source(
        "question.jsonl",
        "the 80 questions",
        "Apache-2.0",
        "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        (Home("github", *FASTCHAT, f"{JUDGE_DATA}/mt_bench/question.jsonl"),),
        ("mt_bench/question.jsonl", "/question.jsonl"),
    ),
    Source(
        "judge_prompts.jsonl",
        "8 judge prompts",
        "Apache-2.0",
        "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
        (Home("github", *FASTCHAT, f"{JUDGE_DATA}/judge_prompts.jsonl"),),
        ("judge_prompts.jsonl",),
    ),
    Source(
        "reference_answer/gpt-4.jsonl",
        "30 reference answers, the official ones, of which 13 are wrong",
        "Apache-2.0",
        "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
        (Home("github", *FASTCHAT, f"{JUDGE_DATA}/mt_bench/reference_answer/gpt-4.jsonl"),),
        ("reference_answer/gpt-4.jsonl",),
    ),
    Source(
        "reference_answer/gpt-4-0125-preview.jsonl",
        "30 reference answers, corrected by hand (FastChat's pull request 3158)",
        "Apache-2.0",
        "e484037da5cc14007dde1d821ef76046fccbd0b2f095237fad9ead2c4fc66800",
        (
            Home(
                "github",
                "lm-sys/FastChat",
                "962316eba4e9db86bc8002243290e4074dabf48e",
                f"{JUDGE_DATA}/mt_bench/reference_answer/gpt-4-0125-preview.jsonl",
            ),
        ),
        ("gpt-4-0125-preview.jsonl",),
    ),
    Source(
        "inflection/question.jsonl",
        "80 questions with references, 4 questions and their references corrected",
        "MIT, Inflection AI",
        "ca66c6bd52168ff38a3e97ffaaf88c8fbb94cac8613d49efe1ca0e1925ac1755",
        (
            Home(
                "github",
                "InflectionAI/Inflection-Benchmarks",
                "706d0f22e5dd2c8ac670c472bd98fb2f93af19ca",
                "mt_bench_inf.jsonl",
            ),
        ),
        ("mt_bench_inf.jsonl", "inflection/question.jsonl"),
    ),
    _votes(
        "human",
        "human-00000-of-00001-25f4910818759289.parquet",
        "3,355 human votes",
        "7ae1ff9ad4a01c30936342dd5494493da9a7fe6538265df1f4c04d44e76fa5f3",
    ),
    _votes(
        "gpt4_pair",
        "gpt4_pair-00000-of-00001-c0b431264a82ddc0.parquet",
        "2,400 pairwise verdicts of GPT-4",
        "ef1d3c8d0eb9824cd9ecdd50a4d5690f0c05382148a24801128cb5facb121238",
    ),
)
