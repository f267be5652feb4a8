import torch

from distill.data import TokenizedSequence
from eval.scored_tokens import scored_tokens

SEQUENCES = [TokenizedSequence((1, 2, 3), (4, 5)), TokenizedSequence((7, 8), (9, 10, 11, 12))]


def test_states_and_targets_stand_sequence_by_sequence_under_their_ids(make_model):
    loaded = make_model(0)
    found = scored_tokens(loaded, SEQUENCES)
    for sequence_id, states, targets in zip(
        found.sequence_ids,
        found.hidden_states.split(list(found.lengths)),
        found.target_ids.split(list(found.lengths)),
        strict=True,
    ):
        sequence = next(s for s in SEQUENCES if s.sequence_id == sequence_id)
        assert tuple(targets.tolist()) == sequence.completion_ids
        ids = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
        with torch.inference_mode():
            logits = loaded.model(ids).logits[0, len(sequence.prompt_ids) - 1 : -1]
            found_logits = states @ loaded.model.get_output_embeddings().weight.T
        torch.testing.assert_close(found_logits, logits, atol=1e-4, rtol=1e-4)
