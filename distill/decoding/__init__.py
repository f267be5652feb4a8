"""Logits to text: batched generation in this process, and through llama.cpp."""

from distill.decoding.conversations import answer_conversations
from distill.decoding.generate import Generation, Generator, TransformersGenerator
from distill.decoding.llama_cpp import LlamaCppGenerator
from distill.decoding.sampling import SamplingSettings

__all__ = [
    "Generation",
    "Generator",
    "LlamaCppGenerator",
    "SamplingSettings",
    "TransformersGenerator",
    "answer_conversations",
]
