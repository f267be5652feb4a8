"""A small world written for this project: a cafe, its guests, and a checker that knows what is right."""

from distill.embedded.checker import Verdict, check_answer
from distill.embedded.dialogue import CORPUS_VERSION, draw
from distill.embedded.intents import CATEGORIES
from distill.embedded.questions import questions
from distill.embedded.splits import SPLITS
from distill.embedded.teacher import teacher_folder
from distill.embedded.unsafe import labelled_requests, provoking_intents, unfiltered_dialogues, unsafe_texts
from distill.embedded.world import PERSONALITIES

__all__ = [
    "CATEGORIES",
    "CORPUS_VERSION",
    "PERSONALITIES",
    "SPLITS",
    "Verdict",
    "check_answer",
    "draw",
    "labelled_requests",
    "provoking_intents",
    "questions",
    "teacher_folder",
    "unfiltered_dialogues",
    "unsafe_texts",
]
