import io

import pytest

from hybrid.datasets.progress import ProgressBar


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(('terminal', 'interval'), [(True, 0.1), (False, 10.0)])
def test_bars_are_redrawn_often_on_a_terminal_and_seldom_in_a_file(monkeypatch, terminal, interval):
    stream = Stream(terminal)
    monkeypatch.setattr('sys.stderr', stream)
    bar = ProgressBar(range(12_000), 'writing', unit=' images')
    assert bar.mininterval == interval
    assert sum(bar) == sum(range(12_000))
    assert 'writing: 100%' in stream.getvalue()
    assert '12.0k/12.0k' in stream.getvalue()
    assert stream.getvalue().count('\r') < 20
