import os
import signal
import threading

import pytest

from hybrid.runs.interruption import Interruption


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_a_request_and_the_second_does_what_it_did_before(number):
    caught = []
    before = signal.signal(number, lambda *_: caught.append(number))
    try:
        with Interruption() as interruption:
            assert not interruption.requested
            os.kill(os.getpid(), number)
            assert interruption.requested
            assert interruption.name == number.name
            assert not caught
            os.kill(os.getpid(), number)
            assert caught == [number]
        os.kill(os.getpid(), number)
        assert len(caught) == 2
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append(interruption.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
