from distill.data import Conversation, Message
from distill.decoding import SamplingSettings
from eval.dialogues import dialogues_markdown


def test_every_turn_is_answered_and_a_cut_answer_is_marked(table_generator):
    asked = Conversation("a", (Message("user", "hello"), Message("user", "bye")))
    generator = table_generator({"hello": "Hi.", "bye": "So"}, finish_reason="length")
    text = dialogues_markdown(generator, [asked], SamplingSettings(temperature=0.0))
    assert text.splitlines() == [
        "1.",
        "   - guest: hello",
        "   - **model**: Hi. […]",
        "   - guest: bye",
        "   - **model**: So […]",
    ]
