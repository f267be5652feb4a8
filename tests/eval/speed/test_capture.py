from eval.speed.capture import ALONE, BODY, WITH_HEAD, capture_rows, described
from eval.speed.teachers import TeacherShape

SHAPE = TeacherShape(vocab_size=2100, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)


def test_each_codec_is_held_against_the_pass_it_needs():
    found = capture_rows(1, shape=SHAPE, num_prompts=1)
    assert [(row.codec, row.baseline) for row in found] == [
        ("exact", BODY),
        ("exact-int8", BODY),
        ("scores", WITH_HEAD),
        ("top-k", WITH_HEAD),
        ("sampled", WITH_HEAD),
        ("exact", ALONE),
    ]
    assert all(row.tokens_per_s.median > 0 and row.share.median > 0 for row in found)


def test_the_description_names_the_shape():
    assert "hidden size 16, vocabulary 2,100; 3 prompts" in described(SHAPE, 3)
