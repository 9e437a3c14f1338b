"""An export that is used: by `hybrid.load`, by its predict.py, with little installed, damaged."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
from PIL import Image

import hybrid
from hybrid.datasets import images
from hybrid.photos import image_files
from hybrid.photos.search import Face
from hybrid.runs.export import predict
from tests.random_workdir import face

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    """Files of several sizes and kinds; one is turned by its EXIF data."""
    folder = tmp_path_factory.mktemp('crops')
    for k in range(5):
        face(k, (36 + 31 * k, 60)).save(folder / f'{k}.png')
    exif = Image.Exif()
    exif[0x0112] = 6
    face(7, (50, 70)).save(folder / 'turned.jpg', exif=exif)
    face(8).convert('RGBA').save(folder / '=clear.png')
    Image.fromarray(np.full((40, 40), 30000, np.uint16)).save(folder / 'grey.png')
    return sorted(folder.iterdir(), key=lambda path: (path.name != '=clear.png', path.name))


def test_it_predicts_what_the_model_predicts(export, crops):
    exported = hybrid.load(export.folder)
    pixels = [*crops, face(3), np.asarray(face(4)), np.zeros((20, 30), np.uint8)]
    ours, theirs = export.model.predict(pixels), exported.predict(pixels)
    assert exported.predicts == export.model.predicts == ('age', 'gender')
    assert set(theirs.more) == set(ours.more)
    assert {'age_low', 'age_high', 'age_width', 'age_probabilities'} == set(theirs.more)
    for name in ('age', 'age_low', 'age_high', 'age_width'):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=5e-3)
    for name in ('female_probability', 'age_probabilities'):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=1e-4)
    for name in ('gender', 'path', 'image', 'face', 'width', 'height', 'unusual', 'turn'):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))
    assert theirs.to_rows()[0].keys() == ours.to_rows()[0].keys()
    assert np.ptp(theirs.age) > 0.5
    half = hybrid.load(export.folder / 'model_fp16.onnx').predict(pixels)
    assert 0 < np.abs(half.age - theirs.age).max() < 0.1
    assert len(exported.predict([])) == 0
    none = predict.Runner(export.folder)(np.zeros((0, 36, 36, 3), np.uint8))
    assert {name: column.shape for name, column in none.items()} == {
        **dict.fromkeys(('age', 'female_probability', 'age_low', 'age_high', 'age_width'), (0,)),
        'age_probabilities': (0, 101),
    }


def test_faces_of_photographs(export, crops):
    class Fixed:
        def detect(self, image):
            landmarks = np.array([[12, 12], [28, 12], [20, 20], [13, 28], [27, 28]], np.float32)
            return [Face(np.array([5.0, 5, 30, 30]), landmarks, 0.9)] * (
                image.shape[:2] == (60, 67)
            )

    detector: Any = Fixed()
    ours = export.model.predict_photos(crops, detector)
    theirs = hybrid.load(export.folder).predict_photos(crops, detector)
    assert len(ours) == len(theirs) == 1
    np.testing.assert_allclose(theirs.age, ours.age, atol=1e-3)
    assert theirs.errors == ours.errors
    assert theirs.path.tolist() == ours.path.tolist()
    with pytest.raises(TypeError, match='has no method detect'):
        hybrid.load(export.folder).predict_photos(crops, np)  # type: ignore[arg-type]


def test_photographs_are_searched_as_the_run_would_and_boxes_are_warned_of(
    export, tmp_path, monkeypatch, caplog
):
    class Nothing:
        def detect(self, image):
            return []

    asked = []

    def create(settings, path):
        asked.append((settings.threshold, settings.min_face, path))
        return Nothing()

    monkeypatch.setattr('hybrid.photos.detection.create_detector', create)
    shutil.copytree(export.folder, tmp_path / 'export')
    path = tmp_path / 'export' / 'model.json'
    record = json.loads(path.read_text())
    own = export.model.config.detect
    assert record['detect'] == {name: own[name] for name in own if name != 'model'}
    record['detect'] |= {'threshold': 0.9, 'min_face': 64}
    record['faces'] |= {'geometry': 'box', 'margin': 0.4}
    path.write_text(json.dumps(record))
    model = hybrid.load(tmp_path / 'export')
    photo = np.zeros((9, 9, 3), np.uint8)
    for _ in range(2):
        assert model.predict_photos(photo, 'yunet.onnx').errors == {0: 'no face found'}
    assert asked == [(0.9, 64, 'yunet.onnx')] * 2
    (message,) = [text for text in caplog.messages if 'was trained on faces' in text]
    assert 'cut by boxes with a margin of 0.4; those of photographs are aligned' in message


@pytest.mark.parametrize(
    ('given', 'error', 'said'),
    [
        ('missing.png', ValueError, 'missing.png: no such file'),
        (np.zeros((2, 2), np.float32), ValueError, 'image 0: an array of float32'),
        (np.zeros((2, 2, 2), np.uint8), ValueError, r'image 0: an array of shape \(2, 2, 2\)'),
        (Image.new('F', (9, 9)), ValueError, 'image 0: floating-point grey'),
        ([7], TypeError, 'image 0: int is not a path, a Pillow image or an array'),
        (7, TypeError, 'int is not a path, a Pillow image or an array, and no collection of them'),
    ],
)
def test_what_is_no_image_is_refused(export, given, error, said):
    with pytest.raises(error, match=said):
        hybrid.load(export.folder).predict(given)


@pytest.mark.parametrize('side', [36, 72, 50, 111, 200, 20, 7, 35, 18])
def test_pixels_are_those_of_training(side):
    pixels = np.asarray(face(side, (side + 3, side)))
    difference = np.abs(predict.resize(pixels, 36) - images.resize(pixels, 36).astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.001


def test_files_are_read_as_elsewhere(crops, tmp_path):
    for path in crops:
        np.testing.assert_array_equal(predict.read_file(path), image_files.read_file(path).pixels)
    (tmp_path / 'text.png').write_text('text')
    (tmp_path / 'cut.png').write_bytes(crops[0].read_bytes()[:60])
    for name, said in (
        ('text.png', 'not an image in a known format'),
        ('cut.png', 'cannot be dec'),
    ):
        with pytest.raises(ValueError, match=said):
            predict.read_file(tmp_path / name)
    with pytest.raises(ValueError, match='a folder, not a file'):
        predict.read_file(tmp_path)


def test_what_is_too_large_is_refused_and_no_warning_is_touched(tmp_path, monkeypatch):
    face().save(tmp_path / 'face.png')
    before = warnings.filters[:]
    monkeypatch.setattr(warnings, 'catch_warnings', None)  # Not for threads.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    assert predict.read_file(tmp_path / 'face.png').shape[2] == 3
    monkeypatch.setattr(predict, 'MAX_PIXELS', 100)
    with pytest.raises(ValueError, match=r'^more than 100 pixels$'):
        predict.read_file(tmp_path / 'face.png')
    assert warnings.filters == before


@pytest.mark.parametrize('to_rgb', [images.to_rgb, predict.to_rgb])
def test_grey_of_32_bits_that_looks_like_8_is_not_taken_for_16(to_rgb):
    grey = np.arange(256, dtype=np.int32).reshape(16, 16)
    with pytest.raises(ValueError, match=r"make it 8-bit: image\.convert\('L'\)"):
        to_rgb(Image.fromarray(grey))
    np.testing.assert_array_equal(to_rgb(Image.fromarray(257 * grey))[..., 1], grey)
    assert not to_rgb(Image.fromarray(0 * grey)).any()


def change(name, content):
    """Changes a file of an export, given its content."""

    def damage(folder):
        path = folder / name
        path.write_bytes(content(path.read_bytes()))

    return damage


def describe(**changes):
    """Changes entries of model.json."""
    return change('model.json', lambda old: json.dumps(json.loads(old) | changes).encode())


def foreign(folder):
    """Puts another ONNX model there, of which model.json knows."""
    helper = onnx.helper
    value = helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1])
    node = helper.make_node('Identity', ['x'], ['y'])
    end = helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([node], 'other', [value], [end])
    opsets = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    replace_model(folder, model.SerializeToString())


def replace_model(folder, content):
    """Puts another file in the place of model.onnx, of which model.json knows."""
    (folder / 'model.onnx').write_bytes(content)
    record = json.loads((folder / 'model.json').read_text())
    digest = predict.hashlib.sha256(content).hexdigest()
    record['files']['model.onnx'] = {'bytes': len(content), 'sha256': digest}
    (folder / 'model.json').write_text(json.dumps(record))


DAMAGES = {
    'no json': (change('model.json', lambda old: b'{"format": '), 'json is damaged .Expecting'),
    'half json': (change('model.json', lambda old: old[: len(old) // 2]), 'json is damaged'),
    'no text': (change('model.json', lambda old: b'\xff\xfe\x00'), 'json is damaged'),
    'deep json': (change('model.json', lambda old: b'[' * 10**6), 'json is damaged'),
    'a list': (change('model.json', lambda old: b'[]'), 'json does not describe a hybrid export'),
    'foreign json': (change('model.json', lambda old: b'{"a": 1}'), 'is it of another program'),
    'a later version': (describe(format_version=2), 'is of version 2 of the format, and this'),
    'no files': (describe(files=None), 'parts of it are missing'),
    'a path': (describe(files={'../x': {'sha256': 'a' * 64}}), 'parts of it are missing'),
    'sizes': (describe(input={'size': '36'}), 'parts of it are missing'),
    'other sizes': (describe(input={'size': 40}), 'has other inputs or outputs than model.json'),
    'other outputs': (describe(outputs={'x': []}), 'has other inputs or outputs than model.json'),
    'no outputs': (describe(outputs={}), 'has other inputs or outputs than model.json'),
    'other shapes': (describe(outputs={'age': [101]}), 'has other inputs or outputs than model.js'),
    'faces as text': (describe(known_faces={'contrast': 'x'}), 'are missing or changed'),
    'no faces': (describe(known_faces={'contrast': [1.0]}), 'are missing or changed'),
    'no onnx': (lambda folder: (folder / 'model.onnx').unlink(), 'this export has no such file'),
    'no description': (lambda folder: (folder / 'model.json').unlink(), 'there is no model.json'),
    'half onnx': (change('model.onnx', lambda old: old[: len(old) // 2]), 'onnx is damaged, or an'),
    'a bit of onnx': (change('model.onnx', lambda old: old[:-9] + b'x' + old[-8:]), 'is damaged'),
    'half tensors': (change('weights.safetensors', lambda old: old[:99]), 'tensors is damaged'),
    'no tensors': (change('weights.safetensors', lambda old: b''), 'safetensors is damaged'),
    'foreign onnx': (foreign, 'has other inputs or outputs than model.json says'),
    'text as onnx': (lambda folder: replace_model(folder, b'text'), 'onnxruntime cannot use it'),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_what_is_damaged_or_foreign_is_refused_in_a_line(export, tmp_path, name):
    folder = shutil.copytree(export.folder, tmp_path / 'export')
    damage, said = DAMAGES[name]
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        hybrid.load(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value)


def test_what_onnxruntime_fails_at_is_told_in_a_line(export):
    runner = predict.Runner(export.folder)
    with pytest.raises(RuntimeError, match=r'^onnxruntime failed: .*Got invalid dim.*$') as caught:
        runner(np.zeros((1, 35, 36, 3), np.uint8))
    assert len(str(caught.value).splitlines()) == 1


def test_what_hybrid_load_does_not_take(export, tmp_path):
    for name in ('model.json', 'weights.safetensors', 'model.stablehlo'):
        with pytest.raises(ValueError, match='is a file of an export; name the folder'):
            hybrid.load(export.folder / name)
    (tmp_path / 'foreign.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match='is a file; name the folder of a training or an export'):
        hybrid.load(tmp_path / 'foreign.onnx')
    with pytest.raises(ValueError, match='is an export, which has its settings inside'):
        hybrid.load(export.folder, flip_average=True)
    for use in (hybrid.evaluate, lambda folder: hybrid.load([folder])):
        with pytest.raises(FileNotFoundError, match='is an export, not the folder of a training'):
            use(export.folder)
    # What nobody needs may be removed.
    folder = shutil.copytree(export.folder, tmp_path / 'export')
    for name in ('model.stablehlo', 'weights.safetensors', 'model_fp16.onnx', 'predict.py'):
        (folder / name).unlink()
    assert len(hybrid.load(folder).predict(face())) == 1


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
    """A Python that has numpy, pillow and onnxruntime alone: not even what these depend on."""
    folder = tmp_path_factory.mktemp('bare')
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob('lib/python*/site-packages')
    for module, libraries in ((np, 'numpy'), (PIL, 'pillow'), (onnxruntime, 'onnxruntime')):
        package = pathlib.Path(str(module.__file__)).parent
        (packages / package.name).symlink_to(package)
        if (package.parent / f'{libraries}.libs').is_dir():
            (packages / f'{libraries}.libs').symlink_to(package.parent / f'{libraries}.libs')
    return folder


def run_bare(bare, *arguments, cwd, **more):
    variables = {'PATH': os.environ['PATH'], 'PYTHONDONTWRITEBYTECODE': '1'}
    return subprocess.run(
        [str(bare / 'bin/python'), *map(str, arguments)],
        cwd=cwd,
        env=variables | more,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_predict_py_runs_with_three_packages(export, crops, bare, tmp_path):
    names = [path.name for path in crops]
    program = [export.folder / 'predict.py', *names, 'missing.jpg']
    result = run_bare(bare, *program, f'--output={tmp_path}/out.csv', cwd=crops[0].parent)
    assert (result.returncode, result.stderr) == (1, '')
    exported = hybrid.load(export.folder).predict(crops)
    lines = [
        f'{name}: {age:.1f} years ({low:.1f} to {high:.1f}), {gender} (female with {female:.3f})'
        for name, age, low, high, gender, female in zip(
            names,
            *(exported.age, exported.age_low, exported.age_high),
            *(exported.gender, exported.female_probability),
            strict=True,
        )
    ]
    assert result.stdout.splitlines() == [*lines, 'missing.jpg: no such file']
    with (tmp_path / 'out.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['path'] for row in rows] == [*names, 'missing.jpg']
    assert rows[-1] == dict.fromkeys(rows[0], '') | {
        **{'path': 'missing.jpg', 'error': 'no such file'},
    }
    for name in ('age', 'age_low', 'age_high', 'age_width', 'female_probability'):
        np.testing.assert_allclose(
            [float(row[name]) for row in rows[:-1]], getattr(exported, name), atol=1e-4
        )
    assert 'age_probabilities' not in rows[0]
    again = run_bare(bare, *program, f'--output={tmp_path}/out.csv', cwd=crops[0].parent)
    assert (again.returncode, again.stdout) == (1, result.stdout)
    labels = 'path,age,gender\na.png,30,female\n'
    (tmp_path / 'faces.csv').write_text(labels)
    for flags, said in (
        (['x.png', '--output=faces.csv'], 'error: --output=faces.csv exists and is no table of'),
        ([], 'error: the following arguments are required: IMAGE'),
        (['x.png', '--output=x.txt'], 'error: --output=x.txt: the name must be that of a .csv'),
        (['x.png', '--model=x.onnx'], f'error: {export.folder}/x.onnx: this export has no such'),
    ):
        failed = run_bare(bare, export.folder / 'predict.py', *flags, cwd=tmp_path)
        assert failed.returncode == 1
        assert failed.stderr.startswith(said)
        assert len(failed.stderr.splitlines()) == 1
    assert (tmp_path / 'faces.csv').read_text() == labels


def test_hybrid_load_runs_with_three_packages(export, crops, bare, tmp_path):
    """As after `pip install --no-deps`; with all of hybrid it imports no JAX either."""
    packages = tmp_path / 'installed'
    packages.mkdir()
    (packages / 'hybrid').symlink_to(ROOT / 'hybrid')
    program = (
        'import sys, hybrid\n'
        'model = hybrid.load(sys.argv[1])\n'
        'print(model.predict(sys.argv[2]).age[0])\n'
        "print(*sorted({'jax', 'flax', 'tensorflow_datasets'} & set(sys.modules)))\n"
        'try: model.predict_photos([])\n'
        'except RuntimeError as error: print(error)\n'
        "print(*sorted({'jax', 'flax'} & set(sys.modules)))\n"
        "try: hybrid.load('exprot')\n"
        'except RuntimeError as error: print(error)\n'
    )
    arguments = ['-c', program, export.folder, crops[2]]
    age = str(hybrid.load(export.folder).predict(crops[2]).age[0])
    result = run_bare(bare, *arguments, cwd=tmp_path, PYTHONPATH=str(packages))
    assert (result.returncode, result.stderr) == (0, '')
    found, heavy, refused, heavy_later, mistyped = result.stdout.splitlines()
    assert mistyped.startswith("workdir='exprot' is no export, and for a training all of hybrid")
    assert (found[:6], heavy, heavy_later) == (age[:6], '', '')
    assert refused.startswith('to find faces in photographs all of hybrid has to be installed (No')
    missing = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'no such file. Detection needs' in missing.stderr or missing.returncode == 0
    assert missing.stdout.splitlines()[:2] == [age, '']
