import os
import signal
import threading

import pytest

from torch_es.errors import Stopped
from torch_es.training.signals import StopSignals, exits


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_outside_training_is_an_exit_too(number, tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/calls\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    closed = []

    def work():
        with exits():
            try:
                assert signal.getsignal(number) is not signal.SIG_DFL
                signal.raise_signal(number)
            finally:
                closed.append(True)

    with pytest.raises(SystemExit, match=str(128 + number)):
        work()
    assert closed
    assert signal.getsignal(number) is signal.SIG_DFL
    assert (tmp_path / "calls").is_file() is (number == signal.SIGUSR1)


def test_the_first_signal_counts():
    signals = StopSignals()
    signals._take(signal.SIGTERM, None)
    signals._take(signal.SIGUSR1, None)
    assert signals.received == signal.SIGTERM
