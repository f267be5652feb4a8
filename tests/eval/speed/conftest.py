"""One fork server for the tests of this folder."""

import multiprocessing.forkserver

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_fork_server() -> None:
    """Stops a server that other tests started: it has not loaded what trainers need, and each process here would."""
    multiprocessing.forkserver._forkserver._stop()
