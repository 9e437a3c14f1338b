import concurrent.futures
import csv
import http.client
import io
import json
import socket
import tempfile
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from hybrid.modes import demo
from hybrid.modes.serving import server
from tests.modes.serving.archives_test import pack


class Model:
    """Finds a face in every picture but black ones, whose age is the colour of the first pixel."""

    columns = ('path', 'face', 'x', 'y', 'width', 'height', 'age', 'gender', 'unusual', 'error')

    def __init__(self):
        self.seconds = 0.0
        self.failure = None

    def predict_photos(self, photos):
        (pixels,) = photos
        if pixels[0, 0, 0] and self.failure:
            raise self.failure
        time.sleep(self.seconds)
        row = dict.fromkeys(self.columns)
        if pixels[0, 0, 0]:
            found = {'face': 0, 'x': 1, 'y': 2, 'width': 3, 'height': 4}
            row |= found | {'age': float(pixels[0, 0, 0]), 'gender': 'male', 'unusual': '=tiny'}
        else:
            row['error'] = 'no face found'
        self.rows = [row]
        return type('Found', (), {'to_rows': lambda _, row=row: [row]})()


def png(colour, size=(20, 10)):
    file = io.BytesIO()
    Image.new('RGB', size, (colour, 0, 0)).save(file, 'PNG')
    return file.getvalue()


def huge():
    """The head of a picture of more pixels than are read."""
    content = bytearray(png(9))
    content[16:24] = (20_000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    return bytes(content)


@pytest.fixture(scope='module')
def serving():
    with server.Server(Model(), demo.files('<h1>the card</h1>'), 0) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def model(serving):
    serving.model.seconds, serving.model.failure = 0.0, None
    return serving.model


def ask(serving, method, path, body=None, **headers):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection('127.0.0.1', serving.server_port, timeout=30)
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_listens_on_this_machine_alone(monkeypatch):
    for name in ('HOST', 'GRADIO_SERVER_NAME', 'SERVER_NAME', 'BIND'):
        monkeypatch.setenv(name, '0.0.0.0')
    with server.Server(Model(), {}, 0) as one:
        assert one.socket.getsockname()[0] == '127.0.0.1'
        assert one.socket.family == socket.AF_INET


def test_the_page_and_what_belongs_to_it(serving):
    status, headers, content = ask(serving, 'GET', '/')
    assert (status, headers['Content-Type']) == (200, 'text/html; charset=utf-8')
    assert b'<h1>the card</h1>' in content
    assert headers['Cache-Control'] == 'no-store'
    assert "default-src 'none'" in headers['Content-Security-Policy']
    assert "frame-ancestors 'none'" in headers['Content-Security-Policy']
    assert headers['X-Content-Type-Options'] == 'nosniff'
    script = ask(serving, 'GET', '/demo.js?x=1')[2].decode()
    assert f"Number('{server.MOST_BYTES}')" in script
    # Nothing is fetched from elsewhere, and no text becomes markup.
    page = content.decode() + script + ask(serving, 'GET', '/demo.css')[2].decode()
    for word in ('http:', 'https:', '//cdn', '@import', 'innerHTML', 'eval('):
        assert word not in page, word


@pytest.mark.parametrize(
    'path', ['/demo.html', '/../server.py', '/etc/passwd', '/predict', '/%2e%2e/x', '/files']
)
def test_nothing_else_can_be_fetched(serving, path):
    status, _, content = ask(serving, 'GET', path)
    assert (status, json.loads(content)) == (404, {'error': 'There is no such page.'})


@pytest.mark.parametrize('method', ['PUT', 'DELETE', 'OPTIONS', 'HEAD', 'TRACE', 'X'])
def test_other_methods_are_refused(serving, method):
    assert ask(serving, method, '/predict')[0] == 501


@pytest.mark.parametrize(
    'host', ['evil.example', '', '0.0.0.0', '127.0.0.1', 'localhost:1', '[::1]']
)
@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_other_hosts_are_refused(serving, host, method):
    status, _, content = ask(serving, method, '/', png(9) if method == 'POST' else None, Host=host)
    assert status == 403
    assert json.loads(content)['error'].startswith('Only http://127.0.0.1:')


def test_without_a_host_or_with_two_it_is_refused(serving):
    for hosts in (b'', b'Host: 127.0.0.1:%d\r\nHost: evil\r\n' % serving.server_port):
        with socket.create_connection(('127.0.0.1', serving.server_port), timeout=10) as sent:
            sent.sendall(b'GET / HTTP/1.1\r\n' + hosts + b'\r\n')
            assert sent.recv(100).startswith(b'HTTP/1.1 403')


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://evil.example'},
        {'Origin': 'null'},
        {'Origin': 'http://127.0.0.1'},
        {'Origin': 'https://127.0.0.1:{port}'},
        {'Sec_Fetch_Site': 'cross-site'},
        {'Sec_Fetch_Site': 'same-site'},
    ],
)
def test_requests_of_other_pages_are_refused(serving, headers):
    headers = {name: value.format(port=serving.server_port) for name, value in headers.items()}
    status, _, content = ask(serving, 'POST', '/predict', png(9), **headers)
    assert (status, json.loads(content)) == (403, {'error': 'Requests of other pages are refused.'})


def test_its_own_page_may_ask_by_either_name(serving, model):
    for name in ('127.0.0.1', 'localhost'):
        host = f'{name}:{serving.server_port}'
        own = {'Host': host, 'Origin': f'http://{host}', 'Sec_Fetch_Site': 'same-origin'}
        assert ask(serving, 'POST', '/predict', png(9), **own)[0] == 200


def test_a_photograph_gets_its_faces_and_nothing_is_left_of_it(
    serving, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    status, headers, content = ask(serving, 'POST', '/predict', png(42))
    assert (status, headers['Content-Type']) == (200, 'application/json')
    assert json.loads(content) == {
        'width': 20,
        'height': 10,
        'faces': [
            {'x': 1, 'y': 2, 'width': 3, 'height': 4, 'age': 42.0, 'gender': 'male'}
            | {'unusual': '=tiny', 'error': None}
        ],
    }
    nothing = {'width': 20, 'height': 10, 'faces': [], 'message': 'No face found.'}
    assert json.loads(ask(serving, 'POST', '/predict', png(0))[2]) == nothing
    shown = json.loads(ask(serving, 'POST', '/predict?preview=1', png(42))[2])['preview']
    assert shown.startswith('data:image/jpeg;base64,/9j/')
    assert list(tmp_path.iterdir()) == []


def test_boxes_are_in_pixels_of_the_file(serving, model, monkeypatch):
    from hybrid.datasets import images

    monkeypatch.setattr(images, 'WHOLE_PIXELS', 20 * 10 - 1)
    found = json.loads(ask(serving, 'POST', '/predict', png(42))[2])
    assert (found['width'], found['height']) == (20, 10)
    (face,) = found['faces']
    assert (face['x'], face['y'], face['width'], face['height']) == (2, 4, 6, 8)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'hello, this is text', 'The picture cannot be read: not an image in a known format'),
        (b'', 'The picture cannot be read: the file is empty.'),
        (png(9)[:40], 'The picture cannot be read: '),
        (huge(), 'The picture cannot be read: 20000 x 20000 pixels, more than'),
    ],
    ids=['text', 'empty', 'cut short', 'large'],
)
def test_what_cannot_be_read_is_told_in_a_sentence(serving, model, content, said):
    status, _, answer = ask(serving, 'POST', '/predict', content)
    error = json.loads(answer)['error']
    assert status == 400
    assert error.startswith(said)
    assert error.endswith('.')
    assert 'Traceback' not in error


def test_a_form_is_told_how_it_goes(serving, model):
    kind = 'multipart/form-data; boundary=x'
    status, _, answer = ask(serving, 'POST', '/predict', b'--x--', Content_Type=kind)
    assert status == 415
    assert 'curl --data-binary @photo.jpg' in json.loads(answer)['error']


def test_too_much_is_refused_before_it_is_read(serving, model):
    head = (
        f'POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{serving.server_port}\r\n'
        f'Content-Length: {200 << 20}\r\n'
    ).encode()
    for more in (b'Expect: 100-continue\r\n', b''):  # As curl does; as a browser does.
        with socket.create_connection(('127.0.0.1', serving.server_port), timeout=10) as sent:
            sent.sendall(head + more + b'\r\n')
            answer = sent.makefile('rb').read()
        assert answer.startswith(b'HTTP/1.1 413')
        assert b'The file has 200 MB, more than the 100 MB that are read.' in answer
        assert b'100 Continue' not in answer
    for length in ('', 'x', '-1', '1, 1', '9' * 5000):
        status, _, content = ask(serving, 'POST', '/predict', b'', Content_Length=length)
        assert (status, b'Content-Length' in content) == (411, True)
    chunked = iter([png(9)])
    assert ask(serving, 'POST', '/predict', chunked, Transfer_Encoding='chunked')[0] == 411


def test_a_client_that_sends_on_still_reads_why_it_was_refused(serving, model, monkeypatch):
    monkeypatch.setattr(server, 'MOST_BYTES', 1 << 20)
    status, _, content = ask(serving, 'POST', '/predict', bytes(30 << 20))
    assert (status, b'more than the 1 MB' in content) == (413, True)


def test_an_upload_that_ends_early_disturbs_nobody(serving, model):
    with socket.create_connection(('127.0.0.1', serving.server_port), timeout=10) as sent:
        host = b'Host: 127.0.0.1:%d\r\n' % serving.server_port
        sent.sendall(b'POST /predict HTTP/1.1\r\n' + host + b'Content-Length: 99\r\n\r\nabc')
        sent.shutdown(socket.SHUT_WR)
        assert b'The upload ended early.' in sent.makefile('rb').read()
    assert ask(serving, 'POST', '/predict', png(9))[0] == 200


def test_an_upload_that_takes_too_long_is_given_up(serving, model, monkeypatch):
    monkeypatch.setattr(server, '_SECONDS', 0.2)
    with socket.create_connection(('127.0.0.1', serving.server_port), timeout=10) as sent:
        host = b'Host: 127.0.0.1:%d\r\n' % serving.server_port
        sent.sendall(b'POST /predict HTTP/1.1\r\n' + host + b'Content-Length: 99\r\n\r\n')
        for _ in range(6):
            sent.sendall(b'x')
            time.sleep(0.05)
        answer = sent.recv(1000)
    assert answer.startswith(b'HTTP/1.1 408')
    assert b'The upload takes too long.' in answer


def test_on_port_80_browsers_leave_out_the_port(serving, monkeypatch):
    assert serving.hosts == tuple(f'{x}:{serving.server_port}' for x in ('127.0.0.1', 'localhost'))
    monkeypatch.setattr(serving, 'server_port', 80)
    assert serving.hosts == ('127.0.0.1:80', 'localhost:80', '127.0.0.1', 'localhost')


@pytest.mark.parametrize('failure', [RuntimeError('secret /home/x'), KeyError('x'), MemoryError()])
def test_a_failure_of_the_program_is_a_sentence_too(serving, model, failure, caplog):
    model.failure = failure
    status, _, content = ask(serving, 'POST', '/predict', png(9))
    said = 'The program failed at this file; its console says more.'
    assert (status, json.loads(content)) == (500, {'error': said})
    assert f'a request failed: {type(failure).__name__}' in caplog.text


def test_uploads_at_the_same_time_get_their_own_answers(serving, model):
    model.seconds = 0.02

    def age(colour):
        return json.loads(ask(serving, 'POST', '/predict', png(colour))[2])['faces'][0]['age']

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        colours = [*range(1, 41)]
        assert list(pool.map(age, colours)) == colours


def test_a_zip_becomes_a_table_that_is_no_formula(serving, model):
    files = [('=1+1.png', png(7)), ('@b.png', png(0)), ('ok.png', png(8)), ('bad.jpg', b'x')]
    files += [('n.zip', b''), ('t.txt', b''), ('-large.png', huge())]
    status, headers, content = ask(serving, 'POST', '/predict_zip', pack(files))
    assert (status, headers['Content-Type']) == (200, 'text/csv; charset=utf-8')
    assert headers['Content-Disposition'] == 'attachment; filename="faces.csv"'
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [*rows[0]] == [*Model.columns]
    assert [(row['path'], row['age'], row['unusual']) for row in rows] == [
        *[("'=1+1.png", '7.0', "'=tiny"), ("'@b.png", '', ''), ('ok.png', '8.0', "'=tiny")],
        *[('bad.jpg', '', ''), ('n.zip', '', ''), ("'-large.png", '', '')],
    ]
    errors = [row['error'] for row in rows]
    assert errors[:3] == ['', 'no face found', '']
    assert errors[3].startswith('not an image in a known format')
    assert errors[4] == 'an archive within the archive, which is not read'
    assert errors[5].startswith('20000 x 20000 pixels')


def test_a_zip_that_is_none_is_told_in_a_sentence(serving, model):
    status, _, content = ask(serving, 'POST', '/predict_zip', png(9))
    said = {'error': 'This is no zip file, or a damaged one.'}
    assert (status, json.loads(content)) == (400, said)


def test_one_photograph_that_fails_leaves_the_others_their_rows(serving, model):
    model.failure = RuntimeError('x')
    content = ask(serving, 'POST', '/predict_zip', pack([('a.png', png(7)), ('b.png', png(0))]))[2]
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row['error'] for row in rows] == ['x', 'no face found']


def test_numbers_that_are_not_finite_become_nothing(serving, model, monkeypatch):
    found = model.predict_photos([np.full((9, 9, 3), 5, np.uint8)])
    row = found.to_rows()[0]
    row['age'] = float('nan')
    monkeypatch.setattr(model, 'predict_photos', lambda photos: found)
    faces = json.loads(ask(serving, 'POST', '/predict', png(42))[2])['faces']
    assert faces[0]['age'] is None
