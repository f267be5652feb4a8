import torch

from eval.speed.train_trl import DPO_CHOICES, GKD_CHOICES, TrlSettings, shared_arguments, trained, with_losses


class Trainer:
    """Of TRL's face: two steps, of losses 0.75 and 0.123456789, and a model that is saved."""

    saved_at = ""

    def compute_loss(self, loss: float) -> torch.Tensor:
        return torch.tensor(loss, dtype=torch.float64)

    def train(self) -> None:
        for loss in (0.75, 0.123456789):
            self.compute_loss(loss)

    def save_model(self, folder: str) -> None:
        self.saved_at = folder


def test_settings_are_told_in_words():
    assert TrlSettings(64, 1).described() == "rows of 64 tokens, 1 loader processes"
    assert TrlSettings().described() == "no padding multiple, 0 loader processes"


def test_gkd_is_tried_without_padding_multiples():
    assert set(GKD_CHOICES) == {choice for choice in DPO_CHOICES if choice.padding_multiple is None}


def test_a_trained_trainer_is_saved_and_tells_its_last_loss_unrounded(tmp_path):
    trainer = with_losses(Trainer)()
    assert trained(trainer, tmp_path) == 0.123456789
    assert trainer.saved_at == str(tmp_path)


def test_nothing_but_rate_and_steps_depends_on_the_job(tmp_path):
    first, second = (shared_arguments(tmp_path, TrlSettings(), lr=lr, num_steps=n) for lr, n in ((0.1, 2), (0.2, 3)))
    assert {name for name in first if first[name] != second[name]} == {"learning_rate", "max_steps"}
