"""MT-Bench's shape: questions of several turns, and models' answers to them, in FastChat's files."""

from eval.mt_bench.answers import ModelAnswer, answer_questions, read_answers
from eval.mt_bench.questions import Question, embedded_questions, read_questions, write_questions

__all__ = [
    "ModelAnswer",
    "Question",
    "answer_questions",
    "embedded_questions",
    "read_answers",
    "read_questions",
    "write_questions",
]
