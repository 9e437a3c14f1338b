import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from hybrid.runs import workdir
from hybrid.scores import metrics, report
from results import compare, record, reproduce, table, worst
from results import rows as rows_lib

SESSIONS = [
    {
        'started': '2026-01-01T00:00:00+00:00',
        'first_step': 0,
        'command': 'python launch.py --config=configs/a.py --workdir=/x/runs,/r/b --d=/s/w.npz',
        'commit': 'abc',
        'machine': '2 cores of X',
        'versions': {'jax': '1'},
    },
    {'ended': '2026-01-01T00:10:00+00:00', 'seconds': 600.0},
]
CONFIG: dict[str, Any] = {
    'seed': 3,
    'data': {'dataset': 'd', 'validation_split': 'validation', 'test_split': 'test'},
    'evaluate': {'flip_average': False},
    'loss': 'mse',
}


def rows(ages, predicted, genders, female, **more):
    return {
        'id': [f'face {k}' for k in range(len(ages))],
        'age': np.float32(ages),
        'gender': np.array(genders),
        'predicted_age': np.float32(predicted),
        'female_probability': np.float32(female),
        'constant_age': np.full(len(ages), 30, np.float32),
        'constant_gender': np.zeros(len(ages), int),
        **more,
    }


@pytest.fixture
def folder(tmp_path):
    """A workdir of a run whose errors are 1, 3, 0 and 4 years, one gender of four wrong."""
    run = tmp_path / 'run'
    run.mkdir()
    config = CONFIG | {'data': CONFIG['data'] | {'manual_dir': '/secret'}}
    (run / 'config.json').write_text(json.dumps(config))
    workdir.write_json(run / 'dataset.json', {'splits': {'test': {'sha256': 'a'}}})
    (run / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, SESSIONS)) + '\n')
    validation = {'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}
    lines = [{'step': 4, 'train/loss': 1.0}, validation]
    (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    test = run / 'evaluation' / 'test'
    predictions = rows([20, 30, 40, 50], [21, 33, 40, 46], [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3])
    report.write_report(predictions, test, 'title')
    workdir.write_json(test / 'evaluation.json', {'checkpoint': 'best', 'flip_average': False})
    return run


def test_a_record_holds_where_the_figures_come_from_and_no_machine_key(folder):
    kept = record.record(folder, folder)
    assert '/s/' not in kept['command']
    assert kept['command'].startswith('python launch.py --config=configs/a.py ')
    assert kept['command'].endswith(' --d=w.npz')
    assert (kept['commit'], kept['seconds'], kept['started']) == ('abc', 600.0, 1)
    assert kept['config'].keys() == workdir.flatten(CONFIG).keys()
    assert kept['pretrained'] == []
    assert kept['validation_curve'] == [{'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}]
    assert kept['splits']['test']['metrics']['age/mae'] == 2.0
    assert 'face 0' not in json.dumps(kept)


@pytest.mark.parametrize(
    ('said', 'kept'),
    [
        (
            "--workdir='/home/al ice/runs/x' --d=~/a/w.npz,../../b/v.npz",
            '--workdir=x --d=w.npz,v.npz',
        ),
        ('--config configs/a.py --n=/a//b/w#2', "--config=configs/a.py '--n=w#2'"),
        ('--coordinator=host:1 --process_id=1 --p=hf://a/b/c', '--p=hf://a/b/c'),
        (f'--config={record.FOLDER.parent}/configs/a.py', '--config=configs/a.py'),
        ('\'--p={"a": 1, "b": "/x/y"}\'', '\'--p={"a": 1, "b": "/x/y"}\''),
    ],
)
def test_a_command_is_kept_without_folders_and_addresses(said, kept):
    assert record.clean_command(f'python launch.py {said}') == f'python launch.py {kept}'


def test_pictures_are_kept_but_none_of_a_face(folder, tmp_path):
    test = folder / 'evaluation/test'
    (test / 'worst.png').write_bytes(b'faces')
    record.copy_pictures(test, tmp_path / 'a' / 'b')
    names = {path.name for path in (tmp_path / 'a' / 'b').iterdir()}
    assert names == {path.name for path in test.iterdir()} - {
        *('worst.png', 'predictions.csv', 'metrics.json', 'evaluation.json')
    }
    assert 'subgroups.csv' in names


def test_other_evaluations_are_named_or_refused(folder, tmp_path):
    about = folder / 'evaluation/test/evaluation.json'
    workdir.write_json(about, {'checkpoint': 'last', 'flip_average': False})
    with pytest.raises(ValueError, match=r'last.* the training evaluates its best checkpoint'):
        record.record(folder, folder)
    other = tmp_path / 'other'
    shutil.copytree(folder / 'evaluation', other / 'evaluation')
    kept = record.record(folder, other)
    assert kept['evaluated'] == {'checkpoint': 'last', 'flip_average': False}
    line = rows_lib.describe_run(kept | {'remark': ''})
    assert line.startswith('`abc`, seed 3, evaluated with checkpoint last, flip_average False, 2 ')
    (other / 'evaluation/test').rename(other / 'evaluation/train')
    with pytest.raises(ValueError, match='not evaluated on test'):
        record.record(folder, other)


def test_what_a_run_started_from_is_told(folder):
    source = {'sha256': 'a', 'loaded': ['x', 'y'], 'missing': ['layer4.0.z'], 'unused': []}
    workdir.write_json(folder / 'pretrained.json', {'sources': [source]})
    kept = record.record(folder, folder)
    assert kept['pretrained'] == [source | {'loaded': 2, 'unused': 0}]
    assert 'seed 3, 2 of 3 tensors pretrained, 2 cores' in rows_lib.describe_run(
        kept | {'remark': ''}
    )


def test_members_are_named_by_their_groups():
    config = {
        'ensemble.groups.lstm.size': 2,
        'ensemble.groups.cnn.model.recurrent.cell': 'none',
        'ensemble.size': 1,
    }
    assert rows_lib.member_names({'config': config}) == ['cnn', 'lstm', 'lstm']
    assert rows_lib.member_names({'config': {'ensemble.size': 3}}) == []
    assert rows_lib.member_names({'runs': ['a', 'b']}) == ['a', 'b']


def test_time_of_a_run_that_was_killed_is_not_known():
    killed = SESSIONS[:1] + SESSIONS
    described = record.describe_sessions(killed)
    assert (described['started'], described['seconds']) == (2, None)


def test_the_table_shows_what_the_files_hold(folder, tmp_path):
    shown = {'table': 'utkface', 'label': 'CNN', 'order': 1, 'remark': 'shared'}
    results = tmp_path / 'results'
    results.mkdir()
    workdir.write_json(results / 'a.json', shown | record.record(folder, folder))
    not_run = {'name': 'b', 'label': 'GRU', 'order': 2, 'command': 'launch.py --x'}
    ran = not_run | {'name': 'a'}
    workdir.write_json(results / 'not_run.json', {'utkface': [ran, not_run]})
    published = {'theirs': {'age MAE': '4.25', 'gender accuracy': '95.3', 'run': 'published'}}
    workdir.write_json(results / 'published.json', {'utkface': published})
    readme = 'Before\n<!-- results: utkface -->\nold\n<!-- end -->\nAfter\n'
    new = table.render(readme, results)
    constant, model, gru, theirs = new.splitlines()[4:-2]
    assert constant.startswith(
        '| constant predictor | 10.00 | 150.0 | 12.25 | 25.0 | 50.0 | 50.0 |'
    )
    # Squared errors 1, 9, 0 and 16; all within 5 years; 46 and 50 are of one group, as the rest.
    assert model.startswith('| CNN | 2.00 (')
    assert ' | 6.5 | 2.55 | 100.0 | 100.0 | 75.0 (' in model
    # One of two women is found, and nobody else taken for one.
    assert model.endswith(
        ' | 0.667 | 1.000 | 0.500 | `abc`, seed 3, 2 cores of X (shared), 10 min |'
    )
    assert gru == '| GRU |' + '  |' * 9 + ' not run: `launch.py --x` |'
    assert theirs == '| theirs | 4.25 |  |  |  |  | 95.3 |  |  |  | published |'
    assert table.render(new, results) == new
    with pytest.raises(ValueError, match="'coral'"):
        table.render(readme.replace('utkface', 'coral'), results)
    changed: dict[str, Any] = shown | record.record(folder, folder)
    changed['dataset']['splits']['test']['sha256'] = 'b'
    workdir.write_json(results / 'c.json', changed)
    with pytest.raises(ValueError, match='runs on different test examples: CNN, CNN'):
        table.render(readme, results)


def test_the_curve_of_every_run_is_a_row(folder, tmp_path):
    curve = [
        {'step': 5, 'epoch': 0.99, 'validation/age/mae': 2.5, 'validation/gender/accuracy': 0.8},
        {'step': 10, 'epoch': 2.0, 'validation/age/mae': 2.25, 'validation/gender/accuracy': 0.9},
        {'step': 12, 'epoch': 2.4, 'validation/age/mae': 1.25, 'validation/gender/accuracy': 0.9},
    ]
    runs: list[dict[str, Any]] = [
        {'label': 'A', 'validation_curve': curve},
        {'label': 'B', 'validation_curve': curve[1:]},
    ]
    # Another evaluation of a run has its curve too, and a combination none: neither is a row.
    others: list[dict[str, Any]] = [runs[0] | {'evaluated': {}}, {'label': 'A and B'}]
    assert rows_lib.curves_table([*others, *runs]) == [
        '| epoch | 1 | 2 |',
        '|---|---|---|',
        '| A | 2.50 / 80.0 | 2.25 / 90.0 |',
        '| B |  | 2.25 / 90.0 |',
    ]


def test_a_config_shows_the_scores_of_its_run(folder, tmp_path):
    workdir.write_json(tmp_path / 'a.json', record.record(folder, folder) | {'remark': ''})
    source = '"""A run.\n\nScores (results/a.json):\n\n    old\n    older\n\nMore.\n"""\n'
    new = table.render_docstring(source, tmp_path)
    lines = new.splitlines()
    assert lines[4].startswith('    test        MAE 2.00 (')
    assert lines[4].endswith(' years, CS@5 100.0 %, gender 75.0 (25.0 to 100.0) %')
    assert lines[5] == '    constant    MAE 10.00 years, gender 50.0 % (test)'
    assert lines[6:] == ['    abc, seed 3, 2 cores of X, 10 min', '', 'More.', '"""']
    assert table.render_docstring(new, tmp_path) == new
    missing = table.render_docstring(source.replace('a.json', 'b.json'), tmp_path)
    assert missing.splitlines()[4:6] == ['    not run yet', '']


def test_a_trial_holds_what_it_changed_and_the_difference(folder, tmp_path):
    validation = folder / 'evaluation' / 'validation'
    config = CONFIG | {'data': CONFIG['data'] | {'test_split': ''}}
    (folder / 'config.json').write_text(json.dumps(config))
    ages, genders, female = [20, 30, 40, 50], [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.3]
    report.write_report(rows(ages, [21, 33, 40, 46], genders, female), validation, 'title')
    other = tmp_path / 'other'
    shutil.copytree(folder, other)
    (other / 'config.json').write_text(json.dumps(config | {'loss': 'l1'}))
    better = rows(ages, [21, 31, 40, 49], genders, [0.1, 0.9, 0.2, 0.8])
    report.write_report(better, other / 'evaluation' / 'validation', 'title')
    trial = record.record_trial(other, folder)
    assert trial['config'] == {'loss': 'l1'}
    assert (trial['scores']['age/mae'], trial['baseline']) == (0.75, 'run')
    assert trial['minus_baseline']['age/mae'] == -1.25
    assert trial['validation_mae'] == [2.5]
    line = rows_lib.tried_table([trial | {'label': 'l1', 'name': 'x'}])[-1]
    assert line.startswith('| l1 | `x` | 0.75 (')
    assert '`run` | -1.25 (' in line
    assert ' | +25.00 (' in line
    assert record.record_trial(folder, None)['config']['loss'] == 'mse'


def test_runs_evaluated_together_are_recorded_with_their_names(folder, tmp_path):
    both = tmp_path / 'run+other'
    shutil.copytree(folder / 'evaluation', both / 'evaluation')
    workdirs = [{'workdir': str(folder)}, {'workdir': str(folder)}]
    workdir.write_json(both / 'evaluation/test/evaluation.json', {'workdirs': workdirs})
    kept = record.record_combination(both)
    assert kept['command'] == 'python launch.py --mode=evaluate --workdir=run,run'
    assert (kept['runs'], kept['seconds']) == (['run', 'run'], 1200.0)
    assert rows_lib.describe_run(kept | {'remark': ''}).endswith(
        ', of run, run, 2 cores of X, 20 min'
    )


def test_a_command_is_run_again_elsewhere(folder):
    kept = record.record(folder, folder)
    flags = '--config=configs/a.py --workdir=b --config.data.manual_dir=utkface'
    command = f'python launch.py {flags} \'--config.p={{"n": 3}}\' '
    command += '--config.model.encoder.pretrained=w.npz'
    more = ['--config.model.encoder.pretrained=/w.npz', '--config.data.data_dir=/d']
    repeated = reproduce.arguments(kept | {'command': command}, pathlib.Path('/out'), more)
    assert repeated == ['--config=configs/a.py', '--config.p={"n": 3}', '--workdir=/out', *more]
    for change, message in (
        ({'command': 'python x.py'}, 'is not a start of launch'),
        ({'runs': ['a', 'b']}, 'reproduce a, b, then run'),
        ({'evaluated': {}}, 'is another evaluation'),
    ):
        with pytest.raises(ValueError, match=message):
            reproduce.arguments(kept | change, folder, [])


def test_reproduced_scores_are_compared_on_the_same_examples(folder):
    kept = record.record(folder, folder)
    assert reproduce.changed_keys(kept, folder) == {}
    kept['config']['loss'] = 'l1'
    assert reproduce.changed_keys(kept, folder) == {'loss': ('l1', 'mse')}
    kept['splits']['test']['metrics']['age/mae'] -= 0.25
    off = reproduce.differences(kept, folder)
    assert off == {'test': {'age/mae': 0.25, 'age/rmse': 0.0, 'gender/accuracy': 0.0}}
    workdir.write_json(folder / 'dataset.json', {'splits': {'test': {'sha256': 'b'}}})
    with pytest.raises(ValueError, match="split 'test' has the hash b, and had a"):
        reproduce.differences(kept, folder)


def test_a_comparison_is_paired_by_id():
    a = metrics.canonical_rows(rows([20, 30, 40], [21, 31, 41], [0, 1, -1], [0.1, 0.9, 0.9]))
    b = metrics.canonical_rows(rows([20, 30, 40], [23, 35, 40], [0, 1, -1], [0.9, 0.9, 0.9]))
    turned = {name: column[::-1] for name, column in b.items()}
    scores = compare.compare([a], [turned])
    assert scores['age/mae'] == pytest.approx(1 - 8 / 3)
    assert (scores['gender/accuracy'], scores['gender/accuracy_num_examples']) == (0.5, 2)
    assert scores['age/mae_ci95_low'] <= scores['age/mae'] <= scores['age/mae_ci95_high']
    turned['age'] = turned['age'] + 1
    with pytest.raises(ValueError, match='age differs'):
        compare.compare([a], [turned])


def test_of_several_runs_each_example_counts_with_the_mean_error():
    ages, genders = [20, 30], [0, 1]
    a, b, c = (
        metrics.canonical_rows(rows(ages, predicted, genders, female))
        for predicted, female in (
            ([21, 31], [0.1, 0.9]),
            ([17, 30], [0.9, 0.9]),
            ([24, 32], [0.9, 0.1]),
        )
    )
    # Errors 1, 1 and 3, 0, in the mean 2 and 0.5, less 4 and 2; right are 2 and 1 of 2, less none.
    scores = compare.compare([a, b], [c])
    assert (scores['age/mae'], scores['gender/accuracy']) == (-1.75, 0.75)
    assert (scores['age/mae_ci95_low'], scores['age/mae_ci95_high']) == (-2.0, -1.5)


def test_runs_are_compared_by_workdir_or_by_the_name_of_kept_predictions(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(compare, 'FOLDER', tmp_path)
    made = folder / 'evaluation/test/predictions.csv'
    assert compare.find_predictions(str(folder), 'test') == made
    record.copy_predictions(folder, ['test'], 'a')
    kept = tmp_path / 'predictions/a.test.csv'
    assert compare.find_predictions('a', 'test') == kept
    assert kept.read_bytes() == made.read_bytes()
    with pytest.raises(ValueError, match=r'neither a/evaluation/train/predictions.csv nor .*/a\.t'):
        compare.find_predictions('a', 'train')


def test_the_worst_of_runs_evaluated_together_are_shown_in_the_data_of_the_first(folder, tmp_path):
    test = folder / 'evaluation/test'
    assert worst.trained_in(folder, test) == folder
    workdirs = [{'workdir': str(folder)}, {'workdir': '/other'}]
    workdir.write_json(test / 'evaluation.json', {'workdirs': workdirs})
    assert worst.trained_in(tmp_path / 'A+B', test) == folder
    workdir.write_json(test / 'evaluation.json', {'checkpoint': 'best'})
    with pytest.raises(
        ValueError, match=r'A-no-flip has no config.json and holds no evaluation of'
    ):
        worst.trained_in(tmp_path / 'A-no-flip', test)


def test_the_worst_come_first_and_unknown_ages_not_at_all():
    predicted = rows([20, np.nan, 40, 50], [21, 90, 30, 47], [0, 1, 0, -1], [0.1, 0.9, 0.2, 0.3])
    table_rows = metrics.canonical_rows(predicted)
    assert worst.worst_rows(table_rows, 2).tolist() == [2, 3]
    assert worst.worst_rows(table_rows, 9).tolist() == [2, 3, 0]
    assert worst.caption(table_rows, 3) == '50 years, unknown\npredicted 47, female 30 %\nface 3'
