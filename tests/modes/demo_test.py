import errno
import http.client
import io
import json
import socket
import threading
import zipfile

import pytest

import hybrid
from hybrid.modes import demo
from hybrid.modes.serving import answers, server
from tests import photographs, random_workdir


@pytest.fixture
def model(tiny_config, tmp_path, monkeypatch):
    photographs.use(monkeypatch, tiny_config, tmp_path)
    tiny_config.evaluate.unsure_below = 0.99
    return hybrid.load(random_workdir.create(tiny_config, tmp_path / 'run'))


def test_a_model_answers_as_it_does_from_python(model, tmp_path, monkeypatch):
    detector = photographs.Detector()
    monkeypatch.setattr(type(model), '_get_detector', lambda self, given: detector)
    photo = photographs.encode(photographs.photograph(1))
    with demo.create_server(model, '<p>card</p>', 0) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        connection = http.client.HTTPConnection('127.0.0.1', serving.server_port, timeout=60)
        connection.request('POST', '/predict', photo)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        serving.shutdown()
        thread.join()
    assert (answer['width'], answer['height']) == (960, 360)
    expected = model.predict_photos([photographs.photograph(1)]).to_rows()
    assert len(answer['faces']) == len(photographs.PLACES)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('a.png', photo)
    head = next(answers.about_zip(model, archive.getvalue()))
    assert head.rstrip('\n').split(',') == [name for name in expected[0] if name != 'image']
    for row in expected:
        del row['path'], row['face'], row['image']
    assert answer['faces'] == expected
    assert {face['gender'] for face in answer['faces']} <= {'male', 'female', 'unsure'}


def test_without_a_detector_it_does_not_start(tiny_config, tmp_path):
    tiny_config.detect.model = str(tmp_path / 'none.onnx')
    model = hybrid.load(random_workdir.create(tiny_config, tmp_path / 'run'))
    with pytest.raises(FileNotFoundError, match=r'none\.onnx: no such file\. Detection needs'):
        demo.create_server(model, '', 0)


class Model:
    def predict(self, images):
        assert len(images) == 8

    def predict_photos(self, photos):
        assert len(photos) == 1


def test_an_interruption_is_the_end_and_no_error(monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(server.Server, 'serve_forever', interrupt)
    demo.serve(Model(), '', 0)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith('http://127.0.0.1:')
    assert last == 'ended'


def test_a_port_that_may_not_be_used_is_named(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(server.Server, 'server_bind', refuse)
    with pytest.raises(OSError, match='--port=80 may not be used by you; name one from 1024 on'):
        demo.create_server(Model(), '', 80)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f'--port={port} is taken by another program'):
            demo.create_server(Model(), '', port)
    # The port of one that has just ended is free.
    for _ in range(2):
        with demo.create_server(Model(), '', port) as serving:
            assert isinstance(serving, server.Server)
