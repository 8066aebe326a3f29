import signal
import threading

import pytest

from torch_es.errors import Stopped
from torch_es.training.signals import StopSignals


def test_a_signal_within_playing_raises_at_once_and_only_once():
    def play(signals):
        with signals, signals.interruptible():
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the generation went on")

    with pytest.raises(SystemExit, match="143"):
        play(StopSignals())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_one_that_came_before_stops_the_next_generation():
    signals = StopSignals()

    def play():
        with signals:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Stopped):
                signals.check()

    with pytest.raises(KeyboardInterrupt):
        play()


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGTERM)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_done():
    found = []

    def run():
        with StopSignals() as signals:
            found.append(signals._before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [{}]
