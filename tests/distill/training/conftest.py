"""Caches that several tests read."""

import pytest

from tests.distill.training.examples import Scored, scored_pairs


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Sixteen pairs scored by another model (exact) and by the student's start (scores)."""
    return scored_pairs(tmp_path_factory.mktemp("caches"))
