import torch

from distill.decoding.batch import RunningBatch

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


def last_logits(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0, -1]


@torch.no_grad()
def test_padded_rows_give_the_logits_of_rows_alone(loaded):
    batch = RunningBatch.start(PROMPTS, model=loaded.model)
    expected = torch.stack([last_logits(loaded.model, prompt) for prompt in PROMPTS])
    torch.testing.assert_close(batch.logits, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_step_with_the_cache_gives_the_logits_of_the_whole_row(loaded):
    batch = RunningBatch.start(PROMPTS, model=loaded.model)
    batch.advance(torch.tensor([20, 21, 22]), model=loaded.model)
    batch.advance(torch.tensor([23, 24, 25]), model=loaded.model)
    rows = [[*PROMPTS[0], 20, 23], [*PROMPTS[1], 21, 24], [*PROMPTS[2], 22, 25]]
    expected = torch.stack([last_logits(loaded.model, row) for row in rows])
    torch.testing.assert_close(batch.logits, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_rows_that_stay_go_on_as_before_when_others_leave(loaded):
    batch = RunningBatch.start(PROMPTS, model=loaded.model)
    batch.is_finished = torch.tensor([False, True, False])
    kept = batch.drop_finished()
    assert kept is not None
    assert kept.tolist() == batch.rows.tolist() == [0, 2]
    batch.advance(torch.tensor([20, 22]), model=loaded.model)
    expected = torch.stack([last_logits(loaded.model, row) for row in ([*PROMPTS[0], 20], [*PROMPTS[2], 22])])
    torch.testing.assert_close(batch.logits, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_single_finished_row_among_many_stays(loaded):
    batch = RunningBatch.start([[5]] * 9, model=loaded.model)
    batch.is_finished[3] = True
    assert batch.drop_finished() is None
    assert len(batch.rows) == 9
