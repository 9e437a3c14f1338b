"""From drawn faces to one's own and back: training, evaluation of the other, fine-tuning."""

import json

import cv2
import numpy as np
import pytest

from hybrid.runs import dataset_record
from hybrid.scores.predictions_csv import read_predictions
from tests.launching import launch, tiny_flags

pytestmark = pytest.mark.end_to_end

OWN = ['--config.data.dataset=face_csv/mine', '--config.data.manual_dir=FACES']
EVALUATE = ['--mode=evaluate', '--workdir=runs/quickstart', *OWN]
FINE_TUNE = ['--workdir=runs/mine', '--config.init_from=runs/quickstart', *OWN]
BACK = ['--mode=evaluate', '--workdir=runs/mine', '--config.data.dataset=synthetic_faces']


@pytest.fixture
def own_faces(tiny_builder, tmp_path):
    """A folder of one's own faces: drawn ones, some labels unknown, two photos a person."""
    folder = tmp_path / 'FACES'
    folder.mkdir()
    lines = ['path,age,gender,group']
    for split in ('train', 'test'):
        for k, face in enumerate(tiny_builder.as_data_source(split)):
            name = f'{face["id"].decode()}.png'
            cv2.imwrite(str(folder / name), face['image'][..., ::-1])
            age = '' if np.isnan(face['age']) else f'{face["age"]:g}'
            gender = ('male', 'female', '')[face['gender']]
            lines.append(f'{name},{age},{gender},{split} {k // 2}')
    (folder / 'faces.csv').write_text('\n'.join(lines) + '\n')
    return folder


def evaluations(folder) -> dict[str, bytes]:
    """What metrics.json of each evaluation in a workdir holds."""
    paths = folder.glob('evaluation/**/metrics.json')
    return {
        str(path.parent.relative_to(folder / 'evaluation')): path.read_bytes() for path in paths
    }


def test_from_drawn_faces_to_ones_own_and_back(tmp_path, own_faces):
    runs, data_dir = tmp_path / 'runs', tmp_path / 'data'
    small = [
        flag
        for flag in tiny_flags(data_dir, '')
        if not flag.startswith(('--workdir', '--config.data.dataset'))
    ]
    tiny = '--config.data.dataset=synthetic_faces/tiny'

    def run(arguments, *more):
        """Runs a command with another folder, and on the tiny drawn faces."""
        places = {'runs/': f'{runs}/', 'FACES': str(own_faces), '=synthetic_faces': f'={tiny[22:]}'}
        for old, new in places.items():
            arguments = [argument.replace(old, new) for argument in arguments]
        result = launch(*arguments, *more)
        assert result[0] == 0, result[2]
        assert 'LOADED []' in result[1]
        return result[2]

    run([], f'--workdir={runs}/quickstart', tiny, *small)
    drawn = evaluations(runs / 'quickstart')
    assert drawn.keys() == {'validation', 'test'}
    said = run(EVALUATE)
    # One's own are copies of drawn ones under other names, some of which were trained on.
    assert 'of synthetic_faces/tiny/1.0.0, which it was trained on' in said
    after = evaluations(runs / 'quickstart')
    assert after.items() > drawn.items()
    (name,) = after.keys() - drawn.keys()
    assert name == 'face_csv_mine_1.0.0/test'
    rows = read_predictions(runs / 'quickstart/evaluation' / name / 'predictions.csv')
    of_train = np.char.startswith(rows['id'], 'train')
    assert rows['leak'].tolist() == of_train.tolist()
    assert 0 < of_train.sum() < len(of_train)

    run(FINE_TUNE, *small)
    started = json.loads((runs / 'mine/config.json').read_text())['init_from']
    assert started == f'{runs}/quickstart'
    record = dataset_record.load(runs / 'mine')
    assert record['name'] == 'face_csv/mine/1.0.0'
    assert sum(split['num_examples'] for split in record['splits'].values()) == 108
    mine = evaluations(runs / 'mine')
    # What the run that it began with has seen counts, too.
    rows = read_predictions(runs / 'mine/evaluation/test/predictions.csv')
    assert rows['leak'].tolist() == of_train.tolist()
    count = record['splits']['test']['num_examples']
    assert json.loads(mine['test'])['num_examples'] == count
    assert json.loads(after[name])['num_examples'] == count
    assert json.loads(mine['test'])['age/mae'] != json.loads(after[name])['age/mae']

    run(BACK)
    after = evaluations(runs / 'mine')
    assert after.items() > mine.items()
    (name,) = after.keys() - mine.keys()
    assert name == 'synthetic_faces_tiny_1.0.0/test'
    rows = read_predictions(runs / 'mine/evaluation' / name / 'predictions.csv')
    assert set(rows['id']) == {f'test_{k:06d}' for k in range(41)}
