"""Fixtures of the tests that run whole commands."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def undrawn(undrawn_plots):
    """What is drawn is looked at in ``tests/report`` alone."""
