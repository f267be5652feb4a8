from distill.decoding import (
    LinearAlignmentGenerator,
    LinearAlignmentSettings,
    TransformersGenerator,
    answering,
)


def test_alignment_settings_ask_for_the_steered_generator(loaded):
    assert isinstance(answering(loaded, None), TransformersGenerator)
    assert isinstance(answering(loaded, LinearAlignmentSettings(principle="Be kind.")), LinearAlignmentGenerator)
