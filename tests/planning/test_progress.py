"""The line that the log shows while a quota is filled."""

import logging

from gold_lightning.planning.progress import Progress, log_progress


def test_progress_is_logged_with_yield_speed_and_time_left(caplog):
    caplog.set_level(logging.INFO)
    log_progress(Progress(2, "probe", 20, 80, 64, 10, 750, 5.0))
    assert caplog.messages == ["round 2 probe set: 20/80, yield 31%, 150 tokens/s, 30 s left"]


def test_nothing_is_logged_before_the_first_batch(caplog):
    caplog.set_level(logging.INFO)
    log_progress(Progress(0, "train", 0, 80, 0, 0, 0, 0.0))
    assert not caplog.messages
