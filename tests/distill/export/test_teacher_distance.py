import copy
import dataclasses

import pytest
import torch

from distill.data import TokenizedConversation, TokenizedSequence
from distill.errors import CacheError, ExportError, RecipeError
from distill.export.fidelity import tokenize_chats
from distill.export.teacher_distance import (
    CachedTeacher,
    LiveTeacher,
    answers_of,
    chat_log_probs,
    measure_teacher_distance,
    open_teacher,
)
from distill.models import StudentModule, load_model
from distill.teacher_cache import CacheSettings, score_sequences
from tests.distill.export.noise import disturbed


@pytest.fixture(scope="module")
def merged(llama_folder):
    return load_model(llama_folder)


@pytest.fixture(scope="module")
def chats(merged, dialogues):
    return tokenize_chats(merged, dialogues[:3])


def test_answers_are_cut_where_the_assistant_begins_and_ends():
    chat = TokenizedConversation("c", (1, 2, 3, 4, 5, 6), (False, True, True, False, False, True))
    assert list(answers_of(chat)) == [((1,), (2, 3)), ((1, 2, 3, 4, 5), (6,))]


def test_a_student_like_its_teacher_is_at_no_distance_until_it_is_disturbed(merged, chats):
    distance = measure_teacher_distance(LiveTeacher(merged), merged, disturbed(merged, std=0.02), chats=chats)
    assert distance.num_tokens == sum(sum(chat.completion_mask) for chat in chats)
    assert distance.merged_kl_nats == pytest.approx(0.0, abs=1e-9)
    assert distance.kl_nats > 0.0


class HalfKnown:
    """The merged model's distributions of each chat's first answer only; of the last chat none."""

    def __init__(self, merged, chats):
        self.student, self.last = StudentModule(merged.model).eval(), chats[-1].id

    def distributions(self, chat):
        if chat.id == self.last:
            return None
        log_probs = chat_log_probs(self.student, chat)
        kept = torch.zeros(len(log_probs), dtype=torch.bool)
        kept[: len(next(answers_of(chat))[1])] = True
        return log_probs[kept], kept


def test_only_tokens_that_the_teacher_knows_count(merged, chats):
    distance = measure_teacher_distance(HalfKnown(merged, chats), merged, merged, chats=chats)
    assert distance.num_tokens == sum(len(next(answers_of(chat))[1]) for chat in chats[:-1])
    assert distance.kl_nats == pytest.approx(0.0, abs=1e-9)
    assert measure_teacher_distance(HalfKnown(merged, chats), merged, merged, chats=chats[-1:]) is None


def test_a_teacher_that_is_not_finite_is_refused(merged, chats):
    class Broken(HalfKnown):
        def distributions(self, chat):
            log_probs = chat_log_probs(self.student, chat)
            return torch.full_like(log_probs, torch.nan), torch.ones(len(log_probs), dtype=torch.bool)

    with pytest.raises(ExportError, match="KL divergence to the teacher is not finite"):
        measure_teacher_distance(Broken(merged, chats), merged, merged, chats=chats)


def test_a_teacher_of_other_tokens_is_refused(merged, llama_folder):
    assert isinstance(open_teacher(str(llama_folder), merged), LiveTeacher)
    other = copy.deepcopy(merged.tokenizer)
    other.add_tokens(["a-new-token"])
    with pytest.raises(RecipeError, match="whose tokens are not the student's"):
        open_teacher(str(llama_folder), dataclasses.replace(merged, tokenizer=other))


def filled(folder, teacher, chats, *, codec):
    """A cache of every answer of `chats`, made as `distill cache` makes it."""
    sequences = [TokenizedSequence(*answer) for chat in chats for answer in answers_of(chat)]
    settings = CacheSettings(codec=codec, max_length_tokens=256)
    score_sequences(teacher, sequences, settings=settings, output_dir=folder, data_fingerprint="orders")
    return str(folder)


def test_a_cache_tells_what_the_teacher_itself_does_on_the_answers_it_holds(merged, chats, tmp_path):
    """The teacher is another model than the student; the last chat is not cached, and does not count."""
    teacher, artefact = disturbed(merged, std=0.02), disturbed(merged, std=0.04)
    cached = open_teacher(filled(tmp_path / "cache", teacher, chats[:-1], codec="logits-bf16"), merged)
    assert isinstance(cached, CachedTeacher)
    told = measure_teacher_distance(cached, merged, artefact, chats=chats)
    live = measure_teacher_distance(LiveTeacher(teacher), merged, artefact, chats=chats[:-1])
    assert told.num_tokens == live.num_tokens == sum(sum(chat.completion_mask) for chat in chats[:-1])
    assert live.merged_kl_nats > 1e-3
    assert told.merged_kl_nats == pytest.approx(live.merged_kl_nats, rel=2e-2)
    assert told.kl_nats == pytest.approx(live.kl_nats, rel=2e-2)
    assert told.increase_standard_error_nats == pytest.approx(live.increase_standard_error_nats, rel=5e-2)
    assert measure_teacher_distance(cached, merged, artefact, chats=chats[-1:]) is None


def test_a_cache_of_scores_alone_is_refused_with_the_command_that_adds_distributions(merged, chats, tmp_path):
    place = filled(tmp_path / "cache", merged, chats, codec="scores")
    with pytest.raises(
        CacheError, match=r"export\.teacher\) needs tier exact .*which has scores[\s\S]*fix: distill cache"
    ):
        open_teacher(place, merged)


def test_a_cache_of_another_tokenizer_is_refused(merged, chats, tmp_path):
    place = filled(tmp_path / "cache", merged, chats[:1], codec="exact")
    other = copy.deepcopy(merged.tokenizer)
    other.add_tokens(["a-new-token"])
    with pytest.raises(CacheError, match="tokenizer"):
        open_teacher(place, dataclasses.replace(merged, tokenizer=other))


def test_the_increase_has_a_paired_standard_error(merged, chats):
    """Chats' sums of differences d around their token mean: sqrt(3/2 sum d^2) / N; a single chat has none."""
    teacher, artefact = LiveTeacher(disturbed(merged, std=0.02)), disturbed(merged, std=0.04)
    parts = [measure_teacher_distance(teacher, merged, artefact, chats=[chat]) for chat in chats]
    whole = measure_teacher_distance(teacher, merged, artefact, chats=chats)
    mean = whole.kl_nats - whole.merged_kl_nats
    squares = sum(((part.kl_nats - part.merged_kl_nats - mean) * part.num_tokens) ** 2 for part in parts)
    expected = (3 / 2 * squares) ** 0.5 / whole.num_tokens
    assert whole.increase_standard_error_nats == pytest.approx(expected, rel=1e-4)
    assert parts[0].increase_standard_error_nats is None
