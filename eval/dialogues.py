"""A model's answers to scripted user turns, as Markdown, for documents and for the eye.

`python -m eval.dialogues MODEL PROMPTS.jsonl` prints each dialogue; a row of the file holds `messages` with the user's
turns (and perhaps a system message), and every turn is answered on the model's own earlier answers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from distill.data import Conversation, read_conversations
from distill.decoding import Generator, SamplingSettings, TransformersGenerator, answer_conversations
from distill.models import load_model


def dialogues_markdown(generator: Generator, conversations: Sequence[Conversation], settings: SamplingSettings) -> str:
    """Each conversation under a heading of its own, the model's answers indented as quotes."""
    answers = answer_conversations(generator, conversations, settings, seed=0)
    blocks = []
    for number, (conversation, turns) in enumerate(zip(conversations, answers, strict=True), start=1):
        lines = [f"{number}."]
        for asked, answer in zip(conversation.user_turns, turns, strict=True):
            cut = " […]" if answer.finish_reason == "length" else ""
            lines += [f"   - guest: {asked.content}", f"   - **model**: {answer.text}{cut}"]
        blocks.append("\n".join(lines))
    return "\n".join(blocks) + "\n"


def main() -> None:
    """Prints the dialogues of a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--temperature", type=float, default=0.0)
    arguments = parser.parse_args()
    settings = SamplingSettings(temperature=arguments.temperature, max_new_tokens=64)
    generator = TransformersGenerator(load_model(arguments.model))
    print(dialogues_markdown(generator, read_conversations(arguments.prompts), settings))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
