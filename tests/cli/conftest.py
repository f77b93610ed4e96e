"""Fixtures of the tests of the command line."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def shortcuts(kept_parsers):
    """Nothing of a command line is left in its parser for the next one."""
