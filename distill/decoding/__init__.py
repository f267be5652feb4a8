"""Logits to text: batched generation in this process, through llama.cpp, and by a server."""

from distill.decoding.conversations import answer_conversations
from distill.decoding.endpoint import EndpointGenerator
from distill.decoding.endpoint_client import EndpointSettings
from distill.decoding.endpoint_scores import EndpointScorer, EndpointScores
from distill.decoding.generate import Generation, Generator, TransformersGenerator
from distill.decoding.llama_cpp import LlamaCppGenerator
from distill.decoding.sampling import SamplingSettings

__all__ = [
    "EndpointGenerator",
    "EndpointScorer",
    "EndpointScores",
    "EndpointSettings",
    "Generation",
    "Generator",
    "LlamaCppGenerator",
    "SamplingSettings",
    "TransformersGenerator",
    "answer_conversations",
]
