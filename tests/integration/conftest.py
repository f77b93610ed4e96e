"""Fixtures of the tests that run whole commands."""

from __future__ import annotations

import pytest
from gold_lightning.report import plots


@pytest.fixture(autouse=True, scope="module")
def undrawn_plots(request):
    """Reports compose their plots but do not draw them, which takes a quarter of a small run.

    A module that looks at drawn plots says ``DRAWS = True``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWS", False):
            patch.setattr(plots, "_svg", lambda figure: '<svg class="plot" aria-hidden="true"></svg>')
        yield
