import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hybrid import files
from hybrid.modes import report
from hybrid.modes.pages import run_record
from hybrid.scores import comparison, predictions_csv
from tests import reported_run
from tests.modes.pages.blocks_test import Parser
from tests.reported_run import EVIL, IDS, NAME


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return reported_run.make(tmp_path_factory.mktemp('runs') / f'a {NAME}')


@pytest.fixture(scope='module')
def page(run):
    return report.create_page([run])


def said(text):
    """The text of a page in one line."""
    return ' '.join(' '.join(Parser(text).parts).split())


def test_everything_of_a_run_is_on_one_page(run, page):
    text = said(page)
    (one,) = run_record.read(run).evaluations
    scores = one.scores
    assert f'{scores["age/mae"]:.2f} years' in text
    assert f'{scores["age/mae_ci95_low"]:.2f} to {scores["age/mae_ci95_high"]:.2f}' in text
    assert f'constant predictor {scores["constant/age/mae"]:.2f}' in text
    assert f'{100 * scores["gender/accuracy"]:.1f} %' in text
    assert 'best checkpoint, step 1,234' in text
    assert f'All {len(one.cells())} groups, also those of fewer than 30 examples' in text
    # The worst errors come first, by their ids.
    assert text.index('The largest errors of age:') < min(text.index(x) for x in IDS[:2])
    assert text.index(IDS[1]) < text.index(
        'Wrong genders, those of which the model was surest first:'
    )
    assert 'data.image_size 96 128' in text
    assert 'model.recurrent.cell gru lstm' in text
    assert 'train.batch_size' not in text  # It is the default's.
    assert 'cd' * 32 in text
    assert '--workdir=WORKDIR' in text
    for hidden in ('/home', 'alice', str(run.parent)):
        assert hidden not in page


def test_the_pictures_of_an_evaluation_are_in_the_page_and_no_others(run, page):
    pictures = [a['src'] for tag, a in Parser(page).tags if tag == 'img']
    assert all(source.startswith('data:image/png;base64,') for source in pictures)
    contents = [base64.b64decode(source.split(',')[1]).decode() for source in pictures]
    names = ['age_scatter.png', 'calibration.png']
    assert contents == [*(f'picture {name}' for name in names), 'picture of the curves']


def test_names_are_no_markup(page):
    found = Parser(page)
    assert {tag for tag, _ in found.tags} & {'script', 'iframe', 'object', 'link', 'form'} == set()
    attributes = {name for _, found_here in found.tags for name in found_here}
    assert not {name for name in attributes if name.startswith('on')}
    for text in (EVIL, NAME, *IDS[:2]):
        assert text in found.text


def test_runs_are_compared_on_the_split_that_they_share(run, tmp_path):
    other = reported_run.make(tmp_path / 'b', seed=1)
    config = reported_run.CONFIG | {'seed': 4}
    files.write_json(other / 'config.json', config)
    alone = reported_run.make(tmp_path / 'c', evaluated=False)
    text = said(report.create_page([run, other, alone]))
    tables = [
        predictions_csv.read_predictions(x / 'evaluation/test/predictions.csv')
        for x in (other, run)
    ]
    less = comparison.compare([tables[0]], [tables[1]])
    numbers = [less[f'age/mae{end}'] for end in ('', '_ci95_low', '_ci95_high')]
    assert '{:+.2f} ({:+.2f} to {:+.2f})'.format(*numbers) in text
    numbers = [100 * less[f'gender/accuracy{end}'] for end in ('', '_ci95_low', '_ci95_high')]
    assert '{:+.1f} points ({:+.1f} to {:+.1f})'.format(*numbers) in text
    assert 'How their configs differ key' in text
    assert re.search(r'b c seed 3 4 3 ', text)
    assert 'It has not been evaluated yet' in text


def test_other_examples_are_not_compared(run, tmp_path):
    other = reported_run.make(tmp_path / 'b', evaluated=False)
    found = reported_run.columns()
    about = {'dataset': reported_run.DATASET, 'split': 'test'}
    reported_run.evaluate(other / 'evaluation/test', found | {'age': found['age'] + 1}, about)
    text = said(report.create_page([run, other]))
    assert f'b and a {NAME} cannot be compared: the runs were not evaluated on the same' in text
    files.write_json(other / 'evaluation/test/evaluation.json', about | {'split': 'validation'})
    text = said(report.create_page([run, other]))
    assert 'No two of these runs were evaluated on the same split.' in text


def test_several_datasets_and_an_ensemble_have_their_sections(tmp_path):
    records = [reported_run.RECORD | {'name': f'face_csv/{x}/1.0.0'} for x in 'ab']
    record = reported_run.RECORD | {'name': 'a and b', 'datasets': records}
    run = reported_run.make(tmp_path / 'run', evaluated=False, record=record)
    for name in ('face_csv/a', 'face_csv/b', 'face_csv/other'):
        folder = run / 'evaluation' / f'{name}/1.0.0'.replace('/', '_') / 'test'
        about = {'dataset': f'{name}/1.0.0', 'split': 'test', 'checkpoint': 'best', 'step': 3}
        reported_run.evaluate(folder, reported_run.columns(members=2), about, best=1)
    found = run_record.read(run).evaluations
    assert [(one.title, one.own) for one in found] == [
        ('face_csv/a, test', True),
        ('face_csv/b, test', True),
        ('face_csv/other, test', False),
    ]
    text = said(report.create_page([run]))
    assert 'the model was trained on other data' in text
    scores = found[0].scores
    assert f'member 1, best on validation {scores["member_1/age/mae"]:.2f}' in text
    assert f'{scores["minus_best_member/age/mae"]:+.2f} (' in text
    assert 'They disagree by 1.00 years on an age' in text


def test_a_run_of_before_there_were_records_gets_a_page(tmp_path):
    run = reported_run.make(tmp_path / 'run')
    for name in ('sessions.jsonl', 'pretrained.json', 'training_curves.png', 'metrics.jsonl'):
        (run / name).unlink()
    for name in ('evaluation.json', 'subgroups.csv', 'predictions.csv'):
        (run / 'evaluation/test' / name).unlink()
    text = said(report.create_page([run]))
    assert 'Nothing was recorded of how it was trained.' in text
    assert f'face_csv/{NAME}, test' in text


def test_faces_are_shown_only_where_they_are_asked_for(tiny_builder, tiny_data_dir, tmp_path):
    examples = list(tiny_builder.as_data_source('test'))
    name = tiny_builder.info.full_name
    run = reported_run.make(
        tmp_path / 'run', evaluated=False, record=reported_run.RECORD | {'name': name}
    )
    data = {'dataset': 'synthetic_faces/tiny', 'validation_split': 'validation'}
    files.write_json(run / 'config.json', {'data': data})
    count = len(examples)
    found = {
        'id': [example['id'] for example in examples],
        'age': np.full(count, 30.0),
        'gender': np.zeros(count, int),
        'predicted_age': 30.0 + np.arange(count),
        'female_probability': np.full(count, 0.1),
        'constant_age': np.full(count, 30.0),
        'constant_gender': np.zeros(count, int),
    }
    about = {'dataset': name, 'split': 'test'}
    reported_run.evaluate(run / 'evaluation/test', found, about)
    assert 'image/jpeg' not in report.create_page([run])

    from hybrid.default_config import get_config

    data = get_config().data
    data.data_dir = str(tiny_data_dir)
    page = report.create_page([run], True, data)
    assert 'This page shows faces of the dataset, for your own eyes.' in said(page)
    faces = re.findall(r'data:image/jpeg;base64,([\w+/=]+)', page)
    assert len(faces) == 20
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(faces[0]))), float)
    assert np.abs(first - examples[-1]['image']).mean() < 8
    data.data_dir = str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'--faces: synthetic_faces/tiny/1\.0\.0 is not pr'):
        report.create_page([run], True, data)


def test_what_cannot_be_written_or_read_is_told_in_a_line(run, tmp_path):
    for name in ('', 'x.txt', 'folder'):
        with pytest.raises(ValueError, match=r'name a file that ends in \.html, for the report'):
            report.report([run], tmp_path / name)
    with pytest.raises(ValueError, match='--faces: a model card shows no faces'):
        report.report([run], tmp_path / 'README.md', faces=True)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        report.report([run], tmp_path / 'no/x.html')
    with pytest.raises(FileNotFoundError, match='must be the folder of a training'):
        report.report([tmp_path], tmp_path / 'x.html')
    assert list(tmp_path.iterdir()) == []
    broken = reported_run.make(tmp_path / 'run')
    for content in ('{"age/mae": "<b>"}', '{}'):
        (broken / 'evaluation/test/metrics.json').write_text(content)
        with pytest.raises(ValueError, match=r'metrics\.json holds other things than scores'):
            report.report([broken], tmp_path / 'x.html')
    (broken / 'evaluation/test/metrics.json').write_text('[')
    with pytest.raises(ValueError, match=r'metrics\.json is not valid JSON .*: evaluate again'):
        report.report([broken], tmp_path / 'x.html')
    broken = reported_run.make(tmp_path / 'other')
    (broken / 'evaluation/test/subgroups.csv').write_bytes(b'subgroup\n\xff\n')
    with pytest.raises(ValueError, match=r'subgroups\.csv is damaged \(.*\); evaluate again'):
        report.report([broken], tmp_path / 'x.html')


def test_the_ending_decides_between_report_and_card(run, tmp_path):
    report.report([run], tmp_path / 'x.html')
    assert (tmp_path / 'x.html').read_text() == report.create_page([run])
    report.report([run], tmp_path / 'README.md')
    card = (tmp_path / 'README.md').read_text()
    assert card.startswith('---\nlicense: "other"\n')
    (tmp_path / 'README.md').write_text(card + 'Our own terms.')
    with pytest.raises(FileExistsError, match='may hold what people have added to it; remove it'):
        report.report([run], tmp_path / 'README.md')
    assert (tmp_path / 'README.md').read_text() == card + 'Our own terms.'
