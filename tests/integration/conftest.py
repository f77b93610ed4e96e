"""Fixtures of the tests that run whole commands."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def shortcuts(undrawn_plots, kept_parsers):
    """Plots are drawn in ``tests/report``, and parsers built in ``tests/cli``."""
