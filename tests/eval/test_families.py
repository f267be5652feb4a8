import pytest

from eval.families import Relative, families_of, kinships


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("gpt-4-0613", {"gpt"}),
        ("openai/gpt-oss-20b", {"gpt"}),
        ("o3-mini", {"gpt"}),
        ("claude-3-5-sonnet-20240620", {"claude"}),
        ("Qwen/Qwen2.5-1.5B-Instruct", {"qwen"}),
        ("QwQ-32B", {"qwen"}),
        ("vicuna-7b-v1.5", {"llama"}),
        ("meta-llama/Meta-Llama-3-8B-Instruct", {"llama"}),
        ("CodeLlama-7b", {"llama"}),
        ("TinyLlama-1.1B", {"llama"}),
        ("mistralai/Mixtral-8x7B", {"mistral"}),
        ("HuggingFaceH4/zephyr-7b-beta", {"mistral"}),
        ("google/gemma-2-2b-it", {"gemma"}),
        ("DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}),
        ("Llama-3.1-Nemotron-70B", {"llama", "nemotron"}),
        ("Phi-3-mini-4k-instruct", {"phi"}),
        ("my_student", set()),
        ("dolphin-2", set()),
    ],
)
def test_names_tell_families(name, families):
    assert families_of(name) == families


def test_relations_from_the_closest_on():
    judge = Relative("judge", "qwen2.5-7b", fingerprint="f1")
    others = [
        Relative("teacher", "teacher", fingerprint="f1", family="qwen"),
        Relative("student", "qwen2.5-7b", fingerprint="f2"),
        Relative("student", "Qwen/Qwen2.5-0.5B"),
        Relative("student", "run-17"),
        Relative("student", "run-18", family="llama"),
        Relative("baseline", "gpt-3.5-turbo"),
    ]
    found = kinships(judge, others)
    assert [(k.model, k.relation) for k in found] == [
        ("teacher", "same weights"),
        ("qwen2.5-7b", "same name"),
        ("Qwen/Qwen2.5-0.5B", "same family"),
        ("run-17", "unknown"),
    ]
    assert found[0].told == "has the same weights as"
    assert found[2].told == "is of the same family (qwen) as"


def test_unknown_weights_are_not_the_same_weights():
    assert kinships(Relative("judge", "gpt-4"), [Relative("teacher", "vicuna-7b")]) == []
