"""In this process; that a process of its own measures the same is tested with `cost_process`."""

from distill.export.gguf import write_gguf
from distill.export.runtime_cost import hardware, run_here


def test_transformers_is_timed(llama_folder):
    cost = run_here(str(llama_folder), "transformers", [5] * 16, 4)
    assert min(cost.load_s, cost.prompt_tokens_per_s, cost.generation_tokens_per_s) > 0
    assert cost.hardware == hardware()


def test_llama_cpp_tells_its_own_speed(llama_folder, tmp_path):
    path = write_gguf(llama_folder, tmp_path / "f16.gguf", file_type="f16").path
    cost = run_here(str(path), "llama.cpp", [5] * 16, 4)
    assert min(cost.load_s, cost.prompt_tokens_per_s, cost.generation_tokens_per_s) > 0
