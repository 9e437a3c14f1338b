import json
import re

import huggingface_hub
import pytest

from hybrid import files
from hybrid.modes.pages import card, figures
from tests import reported_run
from tests.reported_run import IDS, NAME

SPLIT = {'num_examples': 5, 'sha256': 'ef' * 32}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return reported_run.make(tmp_path_factory.mktemp('runs') / 'a run')


@pytest.fixture(scope='module')
def text(run, tmp_path_factory):
    path = tmp_path_factory.mktemp('card') / 'README.md'
    card.write(path, [run], tags=['onnx', '\U0001f600'])
    return path.read_text()


def scores(run, split='test'):
    return json.loads((run / f'evaluation/{split}/metrics.json').read_text())


def test_the_hub_reads_its_metadata(run, text, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    (tmp_path / 'README.md').write_text(text)
    loaded = huggingface_hub.ModelCard.load(tmp_path / 'README.md')
    data = loaded.data
    assert (data.license, data.license_name) == ('other', 'terms-of-the-training-data')
    assert (data.library_name, data.model_name) == ('hybrid', 'a run')
    assert {'onnx', '\U0001f600', 'age-estimation', 'face'} <= set(data.tags)
    assert data.metrics == ['mae', 'accuracy']
    found = {(one.task_name, one.metric_type): one for one in data.eval_results}
    assert len(found) == 3
    mae = found['Age estimation from a face', 'mae']
    assert mae.metric_value == round(scores(run)['age/mae'], 4)
    assert (mae.dataset_type, mae.dataset_name) == ('face_csv', NAME)
    assert (mae.dataset_config, mae.dataset_split) == (NAME, 'test')
    accuracy = found['Gender of a face', 'accuracy']
    assert accuracy.metric_value == round(scores(run)['gender/accuracy'], 4)


def test_the_terms_of_a_known_dataset_are_named(tmp_path):
    record = reported_run.RECORD | {'name': 'utkface/default/1.0.0'}
    run = reported_run.make(tmp_path / 'run', record=record, evaluated=False)
    card.write(tmp_path / 'README.md', [run])
    data = huggingface_hub.ModelCard.load(tmp_path / 'README.md').data
    assert data.license_name == 'utkface-non-commercial-research'
    assert data.license_link == 'https://susanqq.github.io/UTKFace/'
    assert data.datasets == ['utkface']
    assert data.eval_results is None
    text = (tmp_path / 'README.md').read_text()
    assert 'UTKFace is for non-commercial research only' in text
    assert 'The model has not been evaluated with these settings yet.' in text
    assert "framed as those of the training, aligned as UTKFace's are" in text


def test_the_hub_reads_names_beyond_the_basic_plane(tmp_path):
    record = reported_run.RECORD | {'name': 'face_csv/\U0001f600 "a": \u9854/1.0.0'}
    run = reported_run.make(tmp_path / '\U0001f642', record=record)
    card.write(tmp_path / 'README.md', [run])
    data = huggingface_hub.ModelCard.load(tmp_path / 'README.md').data
    assert (data.model_name, data.datasets) == ('\U0001f642', ['\U0001f600 "a": \u9854'])


def test_a_card_names_no_example_no_folder_and_no_machine(text):
    for said in (*IDS, '/home', 'alice', '123 '):
        assert said not in text.replace('abc123', '')
    assert '{' not in text.split('---\n', 2)[2]
    assert '`before`: 1 arrays were taken' in text
    assert '--workdir=WORKDIR' in text
    assert '--config.data.manual_dir=DIR' in text
    assert '--config.init_from=before@best' in text


def test_what_a_card_says(run, text):
    known = scores(run)
    assert text.count('\n# ') == 1
    assert '# a run' in text
    mae = '{:.2f} ({:.2f} to {:.2f})'.format(
        *(known[f'age/mae{end}'] for end in ('', '_ci95_low', '_ci95_high'))
    )
    constant = f'{known["constant/age/mae"]:.2f}'
    assert f'| mean absolute error of the age (years) | {mae} | {constant} |' in text
    assert 'a ResNet-18 with a GRU, on faces of 96 x 96 pixels' in text
    assert 'true ages inside of their interval of 90 %' in text
    assert 'Do not use it alone to check whether somebody is old enough.' in text
    assert 'Do not take the gender for an identity.' in text
    rate = 100 * known['thresholds/18/challenge_25/false_negative_rate']
    assert '| 25 years | ' in text
    assert f' {rate:.1f} % (' in text
    assert f'| test | `{"cd" * 32}` | 80 |' in text
    assert 'Commit `abc123`, seed 3, hybrid 9.9, jax 1.' in text
    assert '2 cores of X, 10 minutes.' in text
    # The worst group first.
    of_age = text.split('Age, the ')[1].split('Gender, the ')[0]
    errors = [float(error) for error in re.findall(r' \| \d+ \| ([\d.]+) \(', of_age)]
    assert len(errors) > 2
    assert errors == sorted(errors, reverse=True)


def test_a_group_that_is_the_same_as_a_wider_one_is_named_once():
    names = ('age_band', 'gender', 'archive')
    groups = [('all', 'all', 'all', 90), ('all', 'all', 'wiki', 90), ('61+', 'all', 'all', 40)]
    groups += [('61+', 'all', 'wiki', 40), ('61+', 'male', 'all', 39), ('61+', 'male', 'wiki', 39)]
    cells = [
        dict(zip(names, group, strict=True)) | {'age/num_examples': count, 'age/mae': count}
        for *group, count in groups
    ]
    table = figures.worst_first(cells, 'age', 10)
    assert table is not None
    assert [row[0] for row in table.rows] == ['everybody', '61+', '61+, male']
    whole = figures.worst_first(cells, 'age')
    assert whole is not None
    assert len(whole.rows) == len(groups)


def test_names_are_no_markup_in_a_card(text):
    body = text.split('---\n', 2)[2]
    assert '<script' not in body
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in body
    for row in (line for line in body.splitlines() if '&lt;script&gt;alert(1)' in line):
        if row.startswith('|'):
            assert row.replace('\\|', '').count('|') in (7, 5), row


def test_evaluations_of_other_checkpoints_and_members_are_left_out(run, tmp_path):
    same = card.describe([run], source={'checkpoint': 'best', 'step': 1234})
    assert len(same.evaluations) == 1
    assert not card.describe([run], source={'checkpoint': 'last', 'step': 99}).evaluations
    member = {'checkpoint': 'best', 'step': 1234, 'member': 2}
    assert not card.describe([run], source=member).evaluations


def test_an_evaluation_says_what_was_not_as_in_the_training(tmp_path):
    run = reported_run.make(tmp_path / 'run')
    path = run / 'evaluation/test/evaluation.json'
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {'overrides': {'data.image_size': 64}}))
    (evaluation,) = card.describe([run]).evaluations
    assert evaluation.checkpoint == 'best checkpoint, step 1,234, data.image_size=64'
    source = {'checkpoint': 'best', 'step': 1234}
    assert not card.describe([run], source=source).evaluations
    assert card.describe([run], source=source | {'overrides': {'data.image_size': 64}}).evaluations


def test_evaluations_count_however_the_path_of_the_workdir_was_written(tmp_path):
    run = reported_run.make(tmp_path / 'run')
    (tmp_path / 'latest').symlink_to(run)
    path = run / 'evaluation/test/evaluation.json'
    about = json.loads(path.read_text())
    one = {'workdir': str(tmp_path / 'latest'), 'checkpoint': 'best', 'step': 1234}
    path.write_text(json.dumps(about | {'workdirs': [one]}))
    source = {'workdirs': [one | {'workdir': str(run)}]}
    assert len(card.describe([run], source=source).evaluations) == 1
    source['workdirs'][0]['workdir'] = str(tmp_path / 'another')
    assert not card.describe([run], source=source).evaluations


def test_evaluations_with_other_settings_or_weights_are_left_out(tmp_path):
    run = reported_run.make(tmp_path / 'run')
    path = run / 'evaluation/test/evaluation.json'
    settings = {'flip_average': True, 'scales': (0.9, 1.1), 'unsure_below': 0.8}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    def shown(**changed):
        source = {'checkpoint': 'best', 'step': 1234, **settings, **changed}
        return len(card.describe([run], source=source).evaluations)

    assert shown() == 1
    assert shown(interval_errors='absolute') == 1  # The file does not know of it.
    assert shown(interval_level=0.8) == 0
    assert shown(flip_average=False) == shown(scales=()) == shown(unsure_below=0.5) == 0
    assert shown(weights={'age': [0.25, 0.75], 'gender': [0.5, 0.5]}) == 0


def test_a_card_of_several_runs_shows_how_they_do_together(run, tmp_path):
    other = reported_run.make(tmp_path / 'b', seed=1)
    evaluated = tmp_path / 'a+b'
    places = [{'workdir': str(x), 'checkpoint': 'best', 'step': 1234} for x in (run, other)]
    about = {'dataset': reported_run.DATASET, 'split': 'test', 'workdirs': places}
    _, known = reported_run.evaluate(
        evaluated / 'evaluation/test', reported_run.columns(2, members=2), about, best=0
    )
    path = tmp_path / 'README.md'
    card.write(path, [run, other], evaluated=evaluated, source={'workdirs': places})
    text = path.read_text()
    assert f'{known["age/mae"]:.2f} (' in text
    assert '80 faces, 2 runs together.' in text
    assert '2 models together (a ResNet-18 with a GRU' in text
    assert text.count('python launch.py') == 2
    assert '/home' not in text


def test_a_card_of_several_runs_names_the_data_and_terms_of_each(run, tmp_path):
    wiki = {'name': 'imdb_wiki/wiki/1.0.0', 'splits': {'train': SPLIT}}
    both = {'name': 'a+b', 'datasets': [reported_run.RECORD, wiki], 'splits': {}}
    other = reported_run.make(tmp_path / 'b', record=both, evaluated=False)
    card.write(tmp_path / 'README.md', [run, other])
    text = (tmp_path / 'README.md').read_text()
    assert 'trained on' in text
    assert 'and IMDB-WIKI by hybrid' in text
    assert text.count('IMDB-WIKI is for academic research only') == 1
    assert f'| imdb_wiki/wiki | train | `{"ef" * 32}` | 5 |' in text
    assert text.count(f'`{"cd" * 32}`') == 1
    assert text.count('It started from') == 1
    data = huggingface_hub.ModelCard.load(tmp_path / 'README.md').data
    assert data.datasets == ['<script>alert(3)', 'imdb_wiki']
    assert 'imdb-wiki' in data.license_name


def test_without_a_test_split_the_card_says_so(tmp_path):
    run = reported_run.make(tmp_path / 'run', evaluated=False)
    about = {'dataset': reported_run.DATASET, 'split': 'validation', 'step': 2}
    found = reported_run.columns()
    found = {k: v for k, v in found.items() if not k.startswith('age_')}
    found['predicted_age'] = [float('nan')] * len(IDS)
    reported_run.evaluate(run / 'evaluation/validation', found, about)
    files.write_json(run / 'dataset.json', reported_run.RECORD | {'constant_age': None})
    card.write(tmp_path / 'README.md', [run])
    text = (tmp_path / 'README.md').read_text()
    assert 'The test split was not evaluated.' in text
    assert 'Guesses the gender of a person' in text
    assert 'mean absolute error' not in text
    assert 'Gender, the ' in text
    results = huggingface_hub.ModelCard.load(tmp_path / 'README.md').data.eval_results
    assert [one.metric_type for one in results] == ['accuracy']
