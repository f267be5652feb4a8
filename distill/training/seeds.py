"""Seeds: one number out of several, and the generators of every device that is here."""

import torch

from distill.files import fingerprint


def fold_seed(*parts: int) -> int:
    """One 60-bit seed out of several numbers."""
    return int(fingerprint(list(parts))[:15], 16)


def set_seed(seed: int) -> None:
    """Seeds the CPU, and the GPUs where there are some.

    `torch.manual_seed` also queues the seed, with a traceback, for every accelerator this machine does not have.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
