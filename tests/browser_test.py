"""The pages as a browser shows them: Chromium, driven by Playwright. CI installs both."""

import csv
import os
import pathlib
import shutil
import tempfile
import threading

import numpy as np
import pytest
from PIL import Image

from hybrid.modes import demo, report
from hybrid.modes.serving import server
from tests import reported_run
from tests.modes.serving.archives_test import pack
from tests.modes.serving.server_test import png

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group('browser')]

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
COLOUR = [255, 190, 40]  # Of the boxes.


class Model:
    """Finds three faces in every picture that is wider than high, and one in others."""

    def predict_photos(self, photos):
        height, width = photos[0].shape[:2]
        rows = [
            {
                **{'path': '', 'face': k, 'x': width // 20 + k * width // 3, 'y': height // 4},
                **{'width': width // 5, 'height': height // 3, 'age': 20.0 + 10 * k},
                **{'age_low': 12.4 + k, 'age_high': 35.0 + k},
                **{'gender': ('male', 'female', 'unsure')[k], 'female_probability': 0.2 + 0.2 * k},
                **{'unusual': '<b>dark</b>' if k == 1 else '', 'error': None},
            }
            for k in range(3 if width > height else 1)
        ]
        return type('Found', (), {'to_rows': lambda self: rows})()


@pytest.fixture(scope='module')
def camera(tmp_path_factory):
    """A film for a camera that is none: a picture that is higher than wide."""
    path = tmp_path_factory.mktemp('camera') / 'camera.y4m'
    frame = b'FRAME\n' + bytes([120]) * (120 * 160) + bytes([128]) * (2 * 60 * 80)
    path.write_bytes(b'YUV4MPEG2 W120 H160 F10:1 Ip A1:1 C420jpeg\n' + 3 * frame)
    return path


@pytest.fixture(scope='module')
def browser(camera):
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not os.environ.get('CI'):  # Where nothing may be left out.
        pytest.importorskip('playwright', reason='Playwright comes with the extra test')
        if program is None:
            pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is installed')
    assert program, 'no browser; .ci/run installs Chromium'
    from playwright.sync_api import sync_playwright

    fake = ('--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream')
    film = f'--use-file-for-fake-video-capture={camera}'
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=['--no-sandbox', *fake, film]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens an address; what the page asks for and complains of is collected in it."""
    contexts = []

    def open_(address, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.asked, page.complaints = [], []
        page.on('request', lambda request: page.asked.append(request.url))
        page.on('pageerror', lambda error: page.complaints.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def address():
    with server.Server(Model(), demo.files('<h1>the card</h1>'), 0) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield serving.url
        serving.shutdown()
        thread.join()


def boxed(canvas):
    """How many pixels of a canvas have the colour of boxes, and its size."""
    script = """canvas => {
        const {width, height} = canvas;
        const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        let count = 0;
        for (let k = 0; k < data.length; k += 4)
            count += data[k] === 255 && data[k + 1] === 190 && data[k + 2] === 40;
        return [count, width, height];
    }"""
    return canvas.evaluate(script)


def test_a_webcam_that_is_allowed_after_its_tab_was_left_does_not_run(address, open_page):
    page = open_page(address)
    page.evaluate("""() => {
        window.stopped = 0;
        const stream = { getTracks: () => [{ stop: () => { window.stopped++; } }] };
        navigator.mediaDevices.getUserMedia = () => new Promise((resolve) => {
            window.allow = () => resolve(stream);
        });
    }""")
    page.click('#tab-webcam')
    page.click('#webcam-button')
    page.click('#tab-zip')
    page.evaluate('window.allow()')
    page.wait_for_function('window.stopped === 1')
    assert page.inner_text('#webcam-button') in ('', 'Start the webcam')
    assert page.complaints == []


def test_a_photograph_a_zip_and_a_webcam(address, open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    page = open_page(address, viewport={'width': 1000, 'height': 800})
    photo = tmp_path / 'photo.png'
    Image.fromarray(np.full((300, 600, 3), 40, np.uint8)).save(photo)
    page.set_input_files('#file', photo)
    page.wait_for_selector('#photo-faces table')
    rows = page.locator('#photo-faces tr').all_inner_texts()
    assert [row.split('\t') for row in rows] == [
        ['face', 'age', 'gender', 'unlike the training'],
        ['1', '20 (12 to 35)', 'male 80 %', ''],
        ['2', '30 (13 to 36)', 'female 40 %', '<b>dark</b>'],
        ['3', '40 (14 to 37)', 'unsure (female 60 %)', ''],
    ]
    assert page.inner_text('#photo-message') == '3 faces.'
    count, width, height = boxed(page.locator('#photo-canvas'))
    assert count > 3 * 2 * (0.2 * width + height / 3)
    assert width == pytest.approx(2 * height, abs=2)

    (tmp_path / 'text.txt').write_text('hello')
    page.set_input_files('#file', tmp_path / 'text.txt')
    page.wait_for_selector('#photo-message.problem')
    assert page.inner_text('#photo-message').startswith('The picture cannot be read: not an image')
    assert page.locator('#photo-canvas').is_hidden()
    with (tmp_path / 'large').open('wb') as file:
        file.truncate(200 << 20)
    page.set_input_files('#file', tmp_path / 'large')
    page.wait_for_selector('#photo-message.problem:has-text("200 MB")')

    page.click('#tab-zip')
    (tmp_path / 'photos.zip').write_bytes(pack([('=1.png', png(9)), ('b.zip', b'x')]))
    page.set_input_files('#zip-file', tmp_path / 'photos.zip')
    page.wait_for_selector('#zip-link:not([hidden])')
    assert page.inner_text('#zip-message').startswith('4 lines, ')
    with page.expect_download() as download:
        page.click('#zip-link')
    assert download.value.suggested_filename == 'faces.csv'
    table = list(csv.reader(pathlib.Path(download.value.path()).read_text().splitlines()))
    assert [row[0] for row in table] == ['path', "'=1.png", "'=1.png", "'=1.png", 'b.zip']

    page.click('#tab-card')
    assert page.inner_text('#card h1') == 'the card'
    assert page.locator('#photo').is_hidden()

    page.click('#tab-webcam')
    page.click('#webcam-button')
    page.wait_for_selector('#webcam-faces table')
    page.wait_for_selector('#webcam-message:has-text("One face.")')
    count, width, height = boxed(page.locator('#webcam-canvas'))
    assert (count > 100, height > width) == (True, True)
    page.click('#webcam-button')
    assert page.inner_text('#webcam-button') == 'Start the webcam'

    assert page.complaints == []
    assert {asked.split('/')[2] for asked in page.asked if asked[:4] == 'http'} == {address[7:-1]}
    assert all(asked.startswith((address, 'blob:', 'data:')) for asked in page.asked)
    assert list((tmp_path / 'temporary').glob('*.png')) == []


@pytest.mark.parametrize('width', [1400, 400])
def test_a_report_opens_without_a_network_and_fits(open_page, tmp_path, width):
    run = reported_run.make(tmp_path / 'run')
    picture = png(200, (900, 300))
    for path in (run / 'training_curves.png', *(run / 'evaluation/test').glob('*.png')):
        path.write_bytes(picture)
    report.report([run, reported_run.make(tmp_path / 'b', seed=1)], tmp_path / 'report.html')
    page = open_page(
        (tmp_path / 'report.html').as_uri(),
        viewport={'width': width, 'height': 800},
        offline=True,
    )
    assert page.evaluate('document.documentElement.scrollWidth') == width
    loaded = page.evaluate('[...document.images].map(image => image.naturalWidth)')
    assert loaded.count(900) == 3
    assert page.locator('h1').inner_text() == 'run and b'
    assert {asked.split(':')[0] for asked in page.asked} <= {'file', 'data'}
    assert page.complaints == []
