"""Fixtures of the tests that run whole commands."""

from __future__ import annotations

import numpy as np
import pytest
from gold_lightning.report import plots
from torch.utils.tensorboard import writer


@pytest.fixture(autouse=True, scope="module")
def undrawn_plots(request):
    """Reports and TensorBoard compose their plots but do not draw them, which takes a third of a small run.

    A module that looks at drawn plots says ``DRAWS = True``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWS", False):
            patch.setattr(plots, "_svg", lambda figure: '<svg class="plot" aria-hidden="true"></svg>')
            patch.setattr(writer, "figure_to_image", lambda figure, close: np.zeros((3, 1, 1), np.uint8))
        yield
