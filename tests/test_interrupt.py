"""Ctrl-C once and twice."""

import signal
import threading

import pytest
from gold_lightning.interrupt import Stopping


@pytest.fixture
def default_handler():
    """Python's own handler, which a background process may lack."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def stopping():
    stopping = Stopping()
    stopping.announcements = 0

    def announce():
        stopping.announcements += 1

    stopping.announce = announce
    return stopping


def press():
    signal.raise_signal(signal.SIGINT)


def test_the_first_is_recorded_and_the_second_stops(stopping, default_handler):
    with stopping.listening():
        press()
        assert (stopping.wanted, stopping.immediately, stopping.announcements) == (True, False, 1)
        with pytest.raises(KeyboardInterrupt):
            press()
    assert (stopping.wanted, stopping.immediately, stopping.announcements) == (True, True, 1)
    assert signal.getsignal(signal.SIGINT) is default_handler
    with stopping.listening():  # a new run begins without the old wish
        assert not stopping.wanted and not stopping.immediately


def test_handlers_of_other_programs_stay(stopping):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        with stopping.listening():
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [1] and not stopping.wanted


def test_other_threads_leave_handlers_alone(stopping, default_handler):
    handlers = []

    def run():
        with stopping.listening():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [default_handler]
