"""Notices of other packages while the Python API is at work."""

import warnings

import pytest
from gold_lightning.notices import lines_shown, without_progress_bars
from gold_lightning.t5.weights import load_model
from transformers.utils import logging as transformers_logging


@pytest.fixture
def bars():
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    yield
    if not enabled:
        transformers_logging.disable_progress_bar()


def test_weights_are_read_and_written_without_bars(bars, tiny_student, tmp_path, capfd):
    with without_progress_bars():
        load_model(str(tiny_student)).save_pretrained(tmp_path)
    assert capfd.readouterr().err == "" and transformers_logging.is_progress_bar_enabled()
    load_model(str(tiny_student))
    assert "Loading weights" in capfd.readouterr().err


def test_a_run_hides_bars_and_known_warnings_until_it_ends(bars, recwarn):
    with pytest.raises(KeyError), lines_shown(verbose=False):
        assert not transformers_logging.is_progress_bar_enabled()
        warnings.warn("The dataloader does not have many workers", stacklevel=1)
        raise KeyError
    assert not recwarn and transformers_logging.is_progress_bar_enabled()
