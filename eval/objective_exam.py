"""What a student of the comparison is asked: held-out conversations for the accuracy, the teacher's answers for KL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distill.data import Conversation, TokenizedConversation, read_conversations, tokenize_conversation
from distill.decoding import SamplingSettings, TransformersGenerator, answer_conversations
from distill.errors import DataError
from distill.files import fingerprint
from distill.models import LoadedModel, load_model
from distill.settings import Settings
from eval.accuracy import accuracy
from eval.checkers import judge
from eval.divergence import kl_to_teacher
from eval.measured import MAX_LENGTH_TOKENS, with_answers
from eval.scores import Interval

SEED = 0
GREEDY = SamplingSettings(temperature=0.0, max_new_tokens=64, batch_size=150)


class Marks(Settings):
    """What a model reached in an exam; `right` says which turns of each conversation, for paired comparisons."""

    accuracy: Interval
    right: tuple[tuple[bool, ...], ...]
    kl_to_teacher_nats: float
    kl_standard_error_nats: float | None


class Examiner(Protocol):
    """Whoever gives marks; `key` fingerprints what is asked."""

    @property
    def key(self) -> str:
        """Other for other questions."""
        ...

    def marks(self, model: str | Path) -> Marks:
        """What the model in this folder reaches."""
        ...


@dataclass(frozen=True)
class Exam:
    """Conversations to answer greedily, and the first of them as the teacher answered them."""

    conversations: Sequence[Conversation]
    references: Sequence[TokenizedConversation]
    teacher: LoadedModel

    @staticmethod
    def of(path: Path, teacher: LoadedModel, *, num_references: int) -> "Exam":
        """The exam on a split that stage `prepare` wrote."""
        conversations = read_conversations(path)
        asked = conversations[:num_references]
        answers = answer_conversations(TransformersGenerator(teacher), asked, GREEDY, seed=SEED)
        answered = [with_answers(c, turns) for c, turns in zip(asked, answers, strict=True)]
        rows = [tokenize_conversation(teacher.tokenizer, c, max_length_tokens=MAX_LENGTH_TOKENS) for c in answered]
        return Exam(conversations, [row for row in rows if row is not None], teacher)

    @property
    def key(self) -> str:
        """Fingerprint of questions, references and teacher."""
        asked = [conversation.to_json() for conversation in self.conversations]
        return fingerprint([asked, [list(row.input_ids) for row in self.references], self.teacher.fingerprint])

    def marks(self, model: str | Path) -> Marks:
        """What the model reaches; the teacher's own divergence is 0.

        Raises:
            DataError: no answer of the set can be checked.
        """
        student = load_model(model, dtype="float32")
        answers = answer_conversations(TransformersGenerator(student), self.conversations, GREEDY, seed=SEED)
        judged = judge(self.conversations, answers)
        found = accuracy(judged, seed=SEED)
        if found is None:
            raise DataError("no answer can be checked", why="the conversations' facts name no checker")
        kl = kl_to_teacher(student, self.teacher, self.references)
        return Marks(
            accuracy=found.overall,
            right=tuple(row.right for row in judged.conversations),
            kl_to_teacher_nats=kl.mean_nats,
            kl_standard_error_nats=kl.standard_error_nats,
        )
