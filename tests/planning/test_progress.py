"""The line that the log shows while a quota is filled."""

import logging
import threading
from dataclasses import replace

import pytest
from gold_lightning.planning import progress
from gold_lightning.planning.progress import Progress, ProgressMeter, log_progress


def test_progress_is_logged_with_yield_speed_and_time_left(caplog):
    caplog.set_level(logging.INFO)
    log_progress(Progress(2, "probe", 20, 80, 64, 10, 750, 5.0))
    assert caplog.messages == ["round 2 probe set: 20/80, yield 31%, writes 150 tokens/s, 30 s left"]


def test_nothing_is_logged_before_the_first_batch(caplog):
    caplog.set_level(logging.INFO)
    log_progress(Progress(0, "train", 0, 80, 0, 0, 0, 0.0))
    assert not caplog.messages


def test_what_a_slow_generator_writes_is_told_in_tenths_and_labels_alone_are_no_text(caplog):
    caplog.set_level(logging.INFO)
    log_progress(Progress(0, "train", 58, 80, 64, 58, 1731, 510.0))
    log_progress(Progress(0, "probe", 355, 355, 355, 355, 0, 700.0))
    assert caplog.messages == [
        "round 0 training samples: 58/80, yield 91%, writes 3.4 tokens/s, 193 s left",
        "round 0 probe set: 355/355, yield 100%, 0 s left",
    ]


def test_a_batch_that_takes_minutes_is_told_of_until_it_ends(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    reports, two = [], threading.Event()

    def report(latest):
        reports.append(latest)
        log_progress(replace(latest, waiting=6000 * latest.waiting))
        if latest.waiting > 0.015:
            two.set()

    meter = ProgressMeter(report, 1, "train", 80, 12)
    meter.show(12, 30)
    with meter.waiting():
        assert two.wait(10)
    count = len(reports)
    assert [(r.accepted, r.requested, r.waiting) for r in reports[:3]] == [
        (12, 30, 0.0),
        (12, 30, 0.01),
        (12, 30, 0.02),
    ]
    assert caplog.messages[:2] == [
        "round 1 training samples: 12/80, batch under way for 1 min",
        "round 1 training samples: 12/80, batch under way for 2 min",
    ]
    assert not [t for t in threading.enumerate() if t.name == "progress"] and len(reports) == count


def test_the_error_of_a_batch_is_raised_and_nothing_is_reported_after_it(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    meter = ProgressMeter(lambda latest: None, 0, "probe", 8, 0)
    with pytest.raises(KeyboardInterrupt), meter.waiting():
        raise KeyboardInterrupt
    assert not [t for t in threading.enumerate() if t.name == "progress"]
