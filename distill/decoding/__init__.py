"""Logits to text: batched generation in this process, through llama.cpp, and by a server."""

from distill.decoding.alignment_processor import LinearAlignmentProcessor, paired_inputs
from distill.decoding.answering import answering
from distill.decoding.chat import ChatGenerator
from distill.decoding.conversations import answer_conversations
from distill.decoding.endpoint import EndpointGenerator
from distill.decoding.endpoint_client import EndpointSettings, ServerSettings, fault_of
from distill.decoding.endpoint_scores import EndpointScorer, EndpointScores
from distill.decoding.generate import Generation, Generator, TransformersGenerator
from distill.decoding.linear_alignment import LinearAlignmentGenerator, LinearAlignmentSettings
from distill.decoding.llama_cpp import LlamaCppGenerator
from distill.decoding.sampling import SamplingSettings

__all__ = [
    "ChatGenerator",
    "EndpointGenerator",
    "EndpointScorer",
    "EndpointScores",
    "EndpointSettings",
    "Generation",
    "Generator",
    "LinearAlignmentGenerator",
    "LinearAlignmentProcessor",
    "LinearAlignmentSettings",
    "LlamaCppGenerator",
    "SamplingSettings",
    "ServerSettings",
    "TransformersGenerator",
    "answer_conversations",
    "answering",
    "fault_of",
    "paired_inputs",
]
