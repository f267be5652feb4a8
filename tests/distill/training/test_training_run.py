"""What makes batches, and what a run keeps beside weights; whole runs are tested with the trainers."""

from distill.models.world import World
from distill.training.feed import Feed
from distill.training.training_run import FeedSource, pad_id_of
from tests.distill.training.examples import dialogues, new_student, settings


def test_a_feeds_batches_are_read_ahead_and_its_metrics_stay():
    feed = Feed(dialogues(16), settings(), pad_id=0, seed=1, world=World(0, 1, 0))
    source = FeedSource(feed)
    ahead = source.read_ahead(1)
    assert ahead is not None
    assert [one.example_ids for one in ahead.passes] == [one.example_ids for one in source.batch(1).passes]
    assert source.figures({"loss": 2.0}, step=1) == {"loss": 2.0}


def test_rows_are_padded_with_the_tokenizers_padding():
    student = new_student()
    assert pad_id_of(student) == student.tokenizer.pad_token_id
