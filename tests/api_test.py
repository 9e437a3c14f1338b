"""The door for Python gives what the command line gives, and leaves the process as it was."""

import copy
import csv
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hybrid
from hybrid import api, devices
from hybrid.modes import evaluate, predict, stacking
from hybrid.ops import kernels
from hybrid.photos import detection
from hybrid.runs import workdir
from tests import random_workdir
from tests.random_workdir import face

ROOT = Path(__file__).resolve().parents[1]
# In one process of pytest, which makes the workdirs once.
pytestmark = pytest.mark.xdist_group('api')

COUNTS = (1, 3, 128, 129)
NUMBERS = {'age': 1e-4, 'female_probability': 1e-5}


@pytest.fixture(scope='module')
def config(create_tiny_config):
    config = create_tiny_config()
    config.evaluate.batch_size = 128
    return config


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
    return random_workdir.create(config, tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def ensemble_config(create_tiny_config):
    config = create_tiny_config()
    config.ensemble.size = 2
    return config


@pytest.fixture(scope='module')
def ensemble_run(ensemble_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ensemble')
    return random_workdir.create(ensemble_config, folder, {None: 1.0, 0: 2.0, 1: 3.0})


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """129 files of crops of several sizes."""
    folder = tmp_path_factory.mktemp('faces')
    for k in range(129):
        face(k, (40 + k % 3, 40 + k % 5)).save(folder / f'{k:03}.png')
    return sorted(folder.iterdir())


def by_command(configs, folders, paths, folder):
    """The rows that --mode=predict writes of some files."""
    source, output = folder / 'input', folder / 'out.jsonl'
    source.mkdir()
    for path in paths:
        (source / path.name).symlink_to(path)
    predict.predict(configs, folders, 'best', str(source), str(output))
    return [json.loads(line) for line in output.read_text().splitlines()]


def assert_same(predictions, rows):
    for name, tolerance in NUMBERS.items():
        expected = [row[name] for row in rows]
        np.testing.assert_allclose(getattr(predictions, name), expected, rtol=0, atol=tolerance)
    assert predictions.gender.tolist() == [row['gender'] for row in rows]


@pytest.mark.parametrize('count', COUNTS)
def test_as_the_command_line_predicts(config, run, files, tmp_path, count):
    rows = by_command([config], [run], files[:count], tmp_path)
    predictions = hybrid.load(run).predict(files[:count])
    assert len(predictions) == count
    assert_same(predictions, rows)
    # The same batches were compiled, so that they are the same to the last bit.
    expected = [row | {'path': str(files[k]), 'image': k} for k, row in enumerate(rows)]
    assert predictions.to_rows() == expected
    assert predictions.age.dtype == predictions.female_probability.dtype == np.float32
    assert predictions.path.tolist() == [str(path) for path in files[:count]]
    assert predictions.errors == {}
    assert np.std(hybrid.load(run).predict(files).age) > 0.1


def test_two_threads_predict_as_one(run, files):
    model = hybrid.load(run)
    pixels = [np.asarray(Image.open(path)) for path in files]
    alone = hybrid.load(run).predict(pixels)
    with futures.ThreadPoolExecutor(2) as pool:
        jobs = [(n, pool.submit(model.predict, pixels[:n])) for n in (*COUNTS, *COUNTS)]
        for count, job in jobs:
            predictions = job.result()
            assert len(predictions) == count
            assert_same(predictions, alone.to_rows()[:count])


def test_an_ensemble_its_members_and_workdirs_that_are_combined(
    ensemble_config, ensemble_run, config, run, files, tmp_path
):
    rows = by_command([ensemble_config], [ensemble_run], files[:5], tmp_path)
    together = hybrid.load(str(ensemble_run)).predict(files[:5])
    assert_same(together, rows)
    for name in ('age_std', 'gender_agreement'):
        column = [row[name] for row in rows]
        np.testing.assert_array_equal(getattr(together, name), np.array(column, np.float32))
        assert together.more[name].dtype == np.float32
    members = [hybrid.load(f'{ensemble_run}#{number}').predict(files[:5]) for number in (0, 1)]
    ages = np.stack([member.age for member in members])
    assert ages.std(0).min() > 1e-3
    np.testing.assert_allclose(ages.mean(0), together.age, rtol=1e-5)
    np.testing.assert_allclose(ages.std(0), together.age_std, rtol=1e-3)
    with pytest.raises(AttributeError, match="'age_std': this model predicts no such thing"):
        members[0].age_std  # noqa: B018
    # A member is what it is in a workdir of its own.
    _, second = stacking.unstack(ensemble_config, ensemble_run, 'best', tmp_path / 'members')
    np.testing.assert_array_equal(hybrid.load(second).predict(files[:5]).age, members[1].age)

    both = [f'{ensemble_run}#0', f'{ensemble_run}@1#1']
    for address in (both, ','.join(both)):
        np.testing.assert_allclose(hybrid.load(address).predict(files[:5]).age, together.age)
    three = hybrid.load([ensemble_run, run]).predict(files[:5])
    single = hybrid.load(run).predict(files[:5]).age
    np.testing.assert_allclose(three.age, (ages.sum(0) + single) / 3, rtol=1e-5)
    assert repr(hybrid.load(both[1])) == f'Model({ensemble_run}#1 (1 checkpoint, step 1))'


def test_images_of_all_kinds(run, tmp_path):
    model = hybrid.load(run)
    picture = face(7, (50, 44))
    pixels = np.asarray(picture)
    picture.save(tmp_path / 'a.png')
    grey = picture.convert('L')
    kinds: list[Any] = [
        *(pixels, picture, tmp_path / 'a.png', str(tmp_path / 'a.png'), picture.convert('RGBA')),
        *(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]), pixels[:, ::-1][:, ::-1]),
        *(np.asarray(grey), grey, np.asarray(grey)[:, :, None], grey.convert('RGB')),
    ]
    one_by_one = [model.predict(image) for image in kinds]
    assert {len(predictions) for predictions in one_by_one} == {1}
    ages = np.concatenate([predictions.age for predictions in one_by_one])
    np.testing.assert_array_equal(ages[:7], ages[0])
    np.testing.assert_array_equal(ages[7:], ages[7])
    assert ages[0] != ages[7]

    mixed = model.predict(kinds)
    np.testing.assert_allclose(mixed.age, ages, rtol=1e-5)
    assert mixed.image.tolist() == list(range(11))
    assert mixed.width.tolist() == [50] * 11
    assert mixed.height.tolist() == [44] * 11
    assert np.isnan(mixed.detection_score).all()
    assert mixed.path.tolist() == ['', '', *[str(tmp_path / 'a.png')] * 2, *[''] * 7]
    assert mixed.to_rows()[0]['path'] is None
    np.testing.assert_array_equal(model.predict(image for image in kinds).age, mixed.age)
    np.testing.assert_array_equal(model.predict(tuple(kinds)).age, mixed.age)
    several = np.stack([pixels] * 3)
    np.testing.assert_allclose(model.predict(several).age, ages[:3], rtol=1e-5)
    paths = np.array([str(tmp_path / 'a.png')] * 2)
    np.testing.assert_allclose(model.predict(paths).age, ages[:2], rtol=1e-5)
    # What is transparent is shown on white.
    clear = np.zeros((40, 40, 4), np.uint8)
    white = np.full((40, 40, 3), 255, np.uint8)
    assert model.predict(clear).age == model.predict(white).age
    nothing = model.predict([])
    assert (len(nothing), nothing.to_rows(), nothing.age.dtype) == (0, [], np.float32)
    assert json.loads(json.dumps(mixed.to_rows())) == mixed.to_rows()


class FixedDetector:
    """Finds a face in the left half of wide photographs, and none in others."""

    def detect(self, image):
        height, width = image.shape[:2]
        if width <= height:
            return []
        landmarks = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]])
        box = np.array([-3.4, 10.6, height / 2, height / 2])
        return [detection.Face(box, landmarks * height / 2 + box[:2], 0.87654321)]


def test_photographs_as_the_command_line(config, run, tmp_path, monkeypatch):
    folder = tmp_path / 'photos'
    folder.mkdir()
    face(1, (600, 500)).save(folder / 'a.png')
    face(2, (300, 500)).save(folder / 'b.jpg')
    (folder / 'c.jpg').write_text('no image')
    face(3, (640, 480)).save(folder / 'd.png')
    monkeypatch.setattr(detection, 'create_detector', lambda config: FixedDetector())
    output = tmp_path / 'out.csv'
    predict.predict([config], [run], 'best', str(folder), str(output), detect=True)
    with output.open(newline='') as file:
        table = list(csv.DictReader(file))

    model = hybrid.load(run)
    found = model.predict_photos(sorted(folder.iterdir()), FixedDetector())
    rows = found.to_rows()
    assert [row.pop('image') for row in rows] == [0, 1, 2, 3]
    assert [list(row) for row in rows] == [list(table[0])] * 4
    as_text = [{k: '' if v is None else str(v) for k, v in row.items()} for row in rows]
    assert as_text == table
    assert len(found) == 2
    assert found.image.tolist() == [0, 3]
    assert (found.x.tolist(), found.y.tolist()) == ([0, 0], [11, 11])
    assert (found.width.tolist(), found.height.tolist()) == ([247, 237], [250, 240])
    assert found.detection_score.tolist() == [np.float32(0.8765)] * 2
    assert found.turn.tolist() == [0, 0]
    assert found.errors.keys() == {1, 2}
    assert found.errors[1] == 'no face found'
    assert found.errors[2].startswith('not an image in a known format')
    pixels = np.asarray(Image.open(folder / 'a.png'))
    np.testing.assert_allclose(
        model.predict_photos(pixels, FixedDetector()).age, found.age[:1], rtol=1e-5
    )


def test_what_cannot_be_predicted(run, tmp_path):
    model = hybrid.load(run)
    good = np.zeros((40, 40, 3), np.uint8)
    (tmp_path / 'text.jpg').write_text('no image')
    cases: list[tuple[Any, type[Exception], str]] = [
        ([good, tmp_path / 'text.jpg'], ValueError, r'text\.jpg: not an image in a known format'),
        (tmp_path / 'missing.jpg', ValueError, r'missing\.jpg: no such file'),
        (tmp_path, ValueError, 'a folder, not a file'),
        ([good, good / 255], ValueError, 'image 1: an array of float64; images are uint8'),
        (np.zeros((5, 40, 40), np.uint8), ValueError, r'image 0: an array of shape \(5, 40, 40\)'),
        ([good, good[None]], ValueError, r'image 1: an array of shape \(1, 40, 40, 3\)'),
        (good[:0], ValueError, r'image 0: an array of shape \(0, 40, 3\)'),
        ([good, None], TypeError, 'image 1: NoneType is not a path, a Pillow image or an array'),
        (3, TypeError, 'int is not a path, a Pillow image or an array, and no collection of them'),
        (b'', TypeError, r'image 0: bytes is .*: give PIL\.Image\.open\(io\.BytesIO\(image\)\)'),
        ([good, memoryview(b'')], TypeError, r'image 1: memoryview is .*BytesIO\(image\)\)'),
        (io.BytesIO(), TypeError, r'image 0: BytesIO is .*: give PIL\.Image\.open\(image\)'),
        (np.array(3), ValueError, 'image 0: an array of int64'),
        (np.array(None), TypeError, 'image 0: NoneType is not a path'),
    ]
    for images, error, reason in cases:
        with pytest.raises(error, match=reason):
            model.predict(images)
    nothing: Any = [None]
    with pytest.raises(TypeError, match='image 0: NoneType'):
        model.predict_photos(nothing, FixedDetector())
    with pytest.raises(FileNotFoundError, match=r'none\.onnx: no such file.*in Python detector='):
        model.predict_photos(good, tmp_path / 'none.onnx')


def test_what_cannot_be_loaded(run, ensemble_run, tmp_path):
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (tmp_path / 'no', {}, FileNotFoundError, r"workdir='.*/no': .* is not the folder of a"),
        ('', {}, ValueError, "workdir='': name the folder"),
        ([], {}, ValueError, r'workdir=\[\]: name the folder'),
        (3, {}, TypeError, 'workdir=3 is no path, and no list of paths'),
        ([run, run], {}, ValueError, 'names a model twice'),
        (f'{run}#1', {}, ValueError, 'is a single model: leave #1 out'),
        (f'{ensemble_run}#7', {}, ValueError, 'has no member 7; there are 0, 1'),
        (f'{run}@5', {}, FileNotFoundError, 'no checkpoint of step 5; there are 1'),
        (run, {'checkpoint': 'worst'}, ValueError, 'worst is not one of best, last'),
        (run, {'overrides': {'evaluate.flop': 1}}, ValueError, r'overrides: evaluate\.flop=1: '),
        (run, {'overrides': {'seed': 'x'}}, ValueError, "seed='x': must be of type int, in 0"),
        (run, {'overrides': {'data.dataset': None}}, ValueError, 'dataset=None: must be of type s'),
        (run, {'overrides': ['seed=1']}, TypeError, r"overrides=\['seed=1'\] is no dict such as"),
        (run, {'overrides': {1: 2}}, TypeError, r'overrides={1: 2} is no dict'),
        (run, {'overrides': {'data.parameters.x': 1}}, ValueError, 'x=1: .* give the whole dict'),
        (run, {'flip_average': 'no'}, ValueError, "flip_average='no': must be of type bool;"),
    ]
    for address, options, error, reason in cases:
        with pytest.raises(error, match=reason):
            hybrid.load(address, **options)
    model = hybrid.load(run)
    with pytest.raises(ValueError, match='this model is loaded already'):
        hybrid.evaluate(model, checkpoint='last')
    with pytest.raises(ValueError, match='workdir: name the folder of the training'):
        hybrid.train(model.config)


def test_the_mirror_image_by_keyword_or_override(run, files):
    pixels = np.asarray(Image.open(files[0]).resize((36, 36)))
    plain = hybrid.load(run).predict([pixels, pixels[:, ::-1]])
    by_keyword = hybrid.load(run, flip_average=True).predict(pixels)
    by_override = hybrid.load(run, overrides={'evaluate.flip_average': True}).predict(pixels)
    np.testing.assert_allclose(by_keyword.age, plain.age.mean(), rtol=1e-5)
    np.testing.assert_array_equal(by_override.age, by_keyword.age)
    assert abs(plain.age[0] - plain.age[1]) > 1e-2


@pytest.mark.long
def test_training_stops_at_a_signal_and_goes_on_in_a_thread(tiny_config, tmp_path, monkeypatch):
    tiny_config.train.log_every_steps = 10  # Metrics of so many steps are waited for before.
    run, wait = tmp_path / 'run', devices.wait_for
    before = tiny_config.to_json()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(tree):
        os.kill(os.getpid(), signal.SIGINT)
        return wait(tree)

    monkeypatch.setattr(devices, 'wait_for', interrupt)
    with pytest.raises(KeyboardInterrupt, match='stopped by SIGINT and saved after step 3 of 6'):
        hybrid.train(tiny_config, run)
    monkeypatch.setattr(devices, 'wait_for', wait)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with futures.ThreadPoolExecutor(1) as pool:
        model = pool.submit(hybrid.train, tiny_config, str(run)).result()
    assert tiny_config.to_json() == before
    assert (model.models[0].checkpoint, model.folders) == ('best', [run])
    written = json.loads((run / 'evaluation/test/metrics.json').read_text())

    assert model.models[0].config.model.kernels in ('portable', 'onednn')
    for metrics in (hybrid.evaluate(model), hybrid.evaluate(run)):
        assert metrics['num_examples'] == 41
        assert metrics['age/mae'] == pytest.approx(written['age/mae'], rel=1e-6)
    last = hybrid.evaluate(run, 'validation', checkpoint='last', output=tmp_path / 'last')
    assert (
        json.loads((tmp_path / 'last/evaluation/validation/evaluation.json').read_text())['step']
        == 6
    )
    assert last['num_examples'] == 23


def test_an_evaluation_writes_into_no_other_run(run, config, tmp_path):
    workdir.save_config(tmp_path, config)
    with pytest.raises(ValueError, match=f'{tmp_path} is the workdir of another run'):
        hybrid.evaluate(run, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [workdir.CONFIG]


def test_a_member_is_evaluated_in_a_folder_of_its_own(ensemble_config, ensemble_run, capsys):
    metrics = hybrid.evaluate(f'{ensemble_run}#1')
    folder = ensemble_run / 'member_1/evaluation/test'
    about = json.loads((folder / 'evaluation.json').read_text())
    assert (about['member'], about['step']) == (1, 1)
    whole = evaluate.evaluate([ensemble_config], [ensemble_run], 'test', 'best')
    assert whole['member_1/age/mae'] == pytest.approx(metrics['age/mae'], rel=1e-5)


def test_kernels_are_settled_before_jax_and_taken_as_they_are_after(config, monkeypatch):
    settled = []
    monkeypatch.setattr(kernels, 'settle', lambda config, recorded: settled.append(recorded))
    config = config.copy_and_resolve_references()
    config.model.kernels = 'onednn'
    monkeypatch.setattr(kernels, '_user_says', lambda: None)
    api._settle_kernels(config, late=True)
    assert (config.model.kernels, settled) == ('portable', [])
    config.model.kernels = 'auto'
    monkeypatch.setattr(kernels, '_user_says', lambda: True)
    api._settle_kernels(config, late=True, recorded='onednn')
    assert (config.model.kernels, settled) == ('onednn', [])
    api._settle_kernels(config, late=False, recorded='portable')
    assert settled == ['portable']


FIRST = """
import sys
import hybrid
from hybrid.ops import kernels

def settle(config, recorded):
    import jax
    assert not jax._src.xla_bridge.backends_are_initialized()
    sys.exit(f'settled in time, {recorded} before')

kernels.settle = settle
hybrid.train('quickstart', sys.argv[1])
"""


def test_a_model_stays_in_its_process(run, monkeypatch):
    model = hybrid.load(run)
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r'call hybrid\.load in each process'):
            use(model)
    pid = os.getpid()
    monkeypatch.setattr(os, 'getpid', lambda: pid + 1)
    with pytest.raises(RuntimeError, match=r'call hybrid\.load in each process'):
        model.predict(face())


def test_what_is_given_in_the_wrong_place_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"config=\{'a': 1\} is no ConfigDict and no name"):
        hybrid.train({'a': 1}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'an export cannot be evaluated'):
        hybrid.evaluate(object())  # type: ignore[arg-type]


def test_a_training_from_python_settles_its_kernels_in_time(tmp_path):
    """Its config is checked before, which imports JAX."""
    process = subprocess.run(
        [sys.executable, '-c', FIRST, str(tmp_path / 'run')],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == 'settled in time, auto before\n'


PROGRAM = """
import logging, signal, sys, time
import filelock  # which does without on Windows
sys.modules['fcntl'] = None
start = time.perf_counter()
import hybrid
seconds = time.perf_counter() - start
assert set(hybrid.__all__) <= set(dir(hybrid))
heavy = {'jax', 'flax', 'numpy', 'absl', 'ml_collections'} & set(sys.modules)
assert not heavy, heavy
hybrid.load
# What `load` needs before it can settle the kernels.
from hybrid import default_config
from hybrid.runs import address, workdir
assert 'jax' not in sys.modules

from absl import flags
from hybrid.models import encoders, resnet
encoders.register('tiny', resnet.encoder((1, 1), 'basic'))
numbers = [signal.SIGINT, signal.SIGTERM]
logger = logging.getLogger('hybrid')

def state():
    handlers = [signal.getsignal(number) for number in numbers]
    loggers = logging.root.handlers[:], logging.root.level, logger.handlers[:], logger.level
    return handlers, loggers, flags.FLAGS.is_parsed(), sys.excepthook, sys.stdout

before = state()
import numpy as np
model = hybrid.load(sys.argv[1])
assert len(model.predict(np.zeros((40, 40, 3), np.uint8))) == 1
assert state() == before
assert not [name for name in flags.FLAGS if name in ('config', 'workdir', 'mode')]
assert 'tensorflow' not in sys.modules
print('seconds', seconds)
"""


def test_the_process_stays_as_it_was_and_nothing_of_unix_is_needed(run):
    process = subprocess.run(
        [sys.executable, '-W', 'error::UserWarning', '-c', PROGRAM, str(run)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ''
    (line,) = process.stdout.splitlines()  # Nothing else was printed.
    assert float(line.split()[1]) < 0.5


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="module 'hybrid' has no attribute 'lode'"):
        hybrid.lode  # noqa: B018


def test_a_recipe_that_is_not_there():
    pytest.importorskip('hybrid.recipes')
    with pytest.raises(FileNotFoundError, match='no such recipe'):
        hybrid.get_config('quickstar')
    assert hybrid.get_config('quickstart').data.dataset == 'synthetic_faces'


def test_a_workdir_without_a_comma_in_its_name(run, tmp_path):
    folder = tmp_path / 'a,b'
    folder.symlink_to(run)
    assert hybrid.load(str(folder)).folders == [folder]
    assert workdir.load_config(folder).seed == 0


def test_what_is_no_model_or_names_one_twice_is_refused(run, tmp_path):
    wrong: Any = 3
    link = tmp_path / 'link'
    link.symlink_to(run)
    for second in (link, f'{run}@last', f'{run}@1'):  # All are the only checkpoint.
        with pytest.raises(ValueError, match='names a model twice'):
            hybrid.load([run, second])
    with pytest.raises(TypeError, match='model=3 is neither a workdir nor a model'):
        hybrid.evaluate(wrong)
    with pytest.raises(ValueError, match=r'overrides: evaluate\.batchsize=3: no such key; .*batch'):
        hybrid.load(run, overrides={'evaluate.batchsize': 3})
    with pytest.raises(FileNotFoundError, match='no checkpoint of step 40'):
        hybrid.load(run, checkpoint='40')
    with pytest.raises(TypeError, match='detector=3 has no method detect'):
        hybrid.load(run).predict_photos([], detector=wrong)
