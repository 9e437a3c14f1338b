import os
import signal
import threading

import pytest

from hybrid import train
from hybrid.interruption import Interruption


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


def test_a_stopped_run_has_saved_and_continues_to_the_same_end(tiny_config, tmp_path, monkeypatch):
    tiny_config.train.num_steps = 7
    whole = train.train_and_evaluate(tiny_config, tmp_path / 'whole')

    original = train.input_pipeline.prefetch_to_device

    def interrupted(*args, **kwargs):
        for number, item in enumerate(original(*args, **kwargs)):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield item

    monkeypatch.setattr(train.input_pipeline, 'prefetch_to_device', interrupted)
    with pytest.raises(train.Stopped, match=r'stopped by SIGTERM and saved after step 3 of 7'):
        train.train_and_evaluate(tiny_config, tmp_path / 'parts')
    assert not (tmp_path / 'parts' / 'evaluation').exists()
    monkeypatch.undo()
    train.train_and_evaluate(tiny_config, tmp_path / 'parts')
    for name in ('metrics.json', 'predictions.csv'):
        path = f'evaluation/test/{name}'
        assert (tmp_path / 'parts' / path).read_bytes() == (tmp_path / 'whole' / path).read_bytes()
    assert int(whole.step) == 7
