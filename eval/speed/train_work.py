"""The work that trainers are compared on: models of random weights, pairs of random tokens, and their order."""

import random
from dataclasses import dataclass
from itertools import chain

from distill.data import TokenizedPair, TokenizedSequence, step_indices
from eval.speed.teachers import TeacherShape

PAD_ID, UNKNOWN_ID, END_ID = 0, 1, 2
FIRST_WORD_ID = 3
STUDENT_SEED, REFERENCE_SEED, TEACHER_SEED = 1, 2, 3
LEARNING_RATE = 1e-4
BETA = 0.1


@dataclass(frozen=True)
class Work:
    """What every trainer gets: shapes, pairs, batch and order, all by number.

    Both answers of a pair have `answer_tokens[0] + answer_tokens[1]` tokens together, so that a mean over pairs of
    their mean over tokens is the mean over all tokens of the batch, as other trainers divide. The policy begins at
    other weights than the reference's: a loss of ln 2 would say little about who computed it.
    """

    student: TeacherShape
    teacher: TeacherShape
    num_pairs: int = 64
    prompt_tokens: tuple[int, int] = (30, 120)
    answer_tokens: tuple[int, int] = (40, 300)
    batch_pairs: int = 4
    seed: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence there may be."""
        return self.prompt_tokens[1] + self.answer_tokens[1]

    def pairs(self) -> list[TokenizedPair]:
        """The pairs; every answer ends in the end token."""
        draw = random.Random(self.seed)

        def words(length: int) -> tuple[int, ...]:
            return tuple(draw.randrange(FIRST_WORD_ID, self.student.vocab_size) for _ in range(length))

        pairs = []
        for number in range(self.num_pairs):
            prompt, length = words(draw.randint(*self.prompt_tokens)), draw.randint(*self.answer_tokens)
            chosen, rejected = (
                TokenizedSequence(prompt, (*words(n - 1), END_ID)) for n in (length, sum(self.answer_tokens) - length)
            )
            pairs.append(TokenizedPair(f"pair-{number}", chosen, rejected))
        return pairs

    def in_order(self, *, num_steps: int) -> list[TokenizedPair]:
        """The pairs as the trainer's feed takes them, batch after batch; over epochs a pair comes again."""
        pairs = self.pairs()
        return [pairs[index] for index in self.order(num_steps=num_steps)]

    def order(self, *, num_steps: int) -> list[int]:
        """The places in `pairs` of the same."""
        steps = (
            step_indices(self.num_pairs, seed=self.seed, global_batch_size=self.batch_pairs, step=step)
            for step in range(num_steps)
        )
        return list(chain.from_iterable(steps))

    def described(self) -> str:
        """The work in words."""
        student, teacher = self.student, self.teacher
        return (
            f"Llama student of {student.num_layers} layers, hidden size {student.hidden_size}; teacher of "
            f"{teacher.num_layers} layers, hidden size {teacher.hidden_size}; vocabulary {student.vocab_size:,}; "
            f"float32, random weights; {self.num_pairs} pairs of random tokens, prompts of {self.prompt_tokens[0]} to "
            f"{self.prompt_tokens[1]}, answers of {self.answer_tokens[0]} to {self.answer_tokens[1]}, "
            f"{self.batch_pairs} pairs a step"
        )


def sequences(pairs: list[TokenizedPair]) -> list[TokenizedSequence]:
    """Prompt with answer of every pair, the chosen one first."""
    return [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]


WORKS = {
    "32k": Work(
        student=TeacherShape(vocab_size=32_000, hidden_size=256, num_layers=4, num_heads=4, intermediate_size=768),
        teacher=TeacherShape(vocab_size=32_000, hidden_size=512, num_layers=6, num_heads=8, intermediate_size=1536),
    ),
    "152k": Work(
        student=TeacherShape(vocab_size=151_936, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=384),
        teacher=TeacherShape(vocab_size=151_936, hidden_size=512, num_layers=6, num_heads=8, intermediate_size=1536),
    ),
    "tiny": Work(
        student=TeacherShape(vocab_size=2_100, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24),
        teacher=TeacherShape(vocab_size=2_100, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48),
        num_pairs=8,
        prompt_tokens=(3, 9),
        answer_tokens=(4, 20),
        batch_pairs=2,
    ),
}
"""By name; `tiny` shows that everything runs, its figures mean nothing."""
