"""Commands to copy into a terminal, one block for each runtime that takes an artefact."""

from collections.abc import Sequence

from distill.export.smoke import Runtime

TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the repository's name
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
chat = [{"role": "user", "content": "Hello!"}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs.to(model.device), max_new_tokens=200)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))"""
_LLAMA_CPP_PYTHON = """\
from llama_cpp import Llama

model = Llama("{file}", n_ctx=0)
answer = model.create_chat_completion([{{"role": "user", "content": "Hello!"}}])
print(answer["choices"][0]["message"]["content"])"""


def usage(runtime: Runtime, *, file_name: str, needs: Sequence[str] = ()) -> str:
    """How to run an artefact, in Markdown; commands are meant for a terminal in its folder.

    Args:
        runtime: what it was tried in.
        file_name: of the weights, for llama.cpp.
        needs: packages beside torch and transformers.
    """
    if runtime == "llama.cpp":
        blocks = [
            ("llama.cpp, which speaks the OpenAI API on port 8080", "sh", f"llama-server --model {file_name} --jinja"),
            ("Ollama", "sh", "ollama create student -f Modelfile\nollama run student"),
            ("llama-cpp-python", "python", _LLAMA_CPP_PYTHON.format(file=file_name)),
            (
                "vLLM (not tried here), with the plugin vllm-gguf-plugin and the merged model's tokenizer",
                "sh",
                f"vllm serve ./{file_name} --tokenizer ../safetensors",
            ),
        ]
    else:
        packages = " ".join(["torch", "transformers", *needs])
        blocks = [
            (f"transformers (`pip install {packages}`)", "python", TRANSFORMERS),
            ("vLLM (not tried here)", "sh", "vllm serve ."),
        ]
    return "\n\n".join(f"{title}:\n\n```{language}\n{code}\n```" for title, language, code in blocks)
