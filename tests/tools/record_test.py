import json
import shutil
from typing import Any

import pytest

from hybrid import files, schema
from hybrid.scores import report
from tests.finished_run import CONFIG, SESSIONS, rows
from tools import record
from tools import rows as rows_lib


def test_a_record_holds_where_the_figures_come_from_and_no_machine_key(folder):
    kept = record.record(folder, folder)
    assert '/s/' not in kept['command']
    assert kept['command'].startswith('python launch.py --config=configs/a.py ')
    assert kept['command'].endswith(' --d=w.npz')
    assert (kept['commit'], kept['seconds'], kept['started']) == ('abc', 600.0, 1)
    assert kept['config'].keys() == schema.flatten(CONFIG).keys()
    assert kept['pretrained'] == []
    assert kept['validation_curve'] == [{'step': 5, 'epoch': 1.0, 'validation/age/mae': 2.5}]
    assert kept['splits']['test']['metrics']['age/mae'] == 2.0
    assert 'face 0' not in json.dumps(kept)


def test_other_evaluations_are_named_or_refused(folder, tmp_path):
    about = folder / 'evaluation/test/evaluation.json'
    files.write_json(about, {'checkpoint': 'last', 'flip_average': False})
    with pytest.raises(ValueError, match=r"made with .*'last'}, but the training .*'best'}: ev"):
        record.record(folder, folder)
    other = tmp_path / 'other'
    shutil.copytree(folder / 'evaluation', other / 'evaluation')
    kept = record.record(folder, other)
    assert kept['evaluated'] == {'checkpoint': 'last'}
    line = rows_lib.describe_run(kept | {'remark': ''})
    assert line.startswith('`abc`, seed 3, evaluated with checkpoint last, 2 ')
    settings = {'flip_average': True, 'scales': [0.9, 1.1], 'age_estimate': 'median'}
    files.write_json(other / 'evaluation/test/evaluation.json', {'checkpoint': 'best', **settings})
    assert record.record(folder, other)['evaluated'] == settings
    # Nor with weights that the training did not ask for, or another config.
    about = {'checkpoint': 'best', 'members': [0, 1], 'weights': {}, 'overrides': {'model.x': 1}}
    files.write_json(other / 'evaluation/test/evaluation.json', about)
    changed = {'ensemble.weights': 'validation', 'overrides': {'model.x': 1}}
    assert record.record(folder, other)['evaluated'] == changed
    (other / 'evaluation/test').rename(other / 'evaluation/train')
    with pytest.raises(ValueError, match='not evaluated on test'):
        record.record(folder, other)


def test_a_run_on_several_datasets_is_sent_to_the_tool_for_those(folder):
    (folder / 'evaluation/utkface_default_1.0.0').mkdir()
    for split in ('test', 'validation'):
        if (folder / 'evaluation' / split).exists():
            (folder / 'evaluation' / split).rename(
                folder / 'evaluation/utkface_default_1.0.0' / split
            )
    with pytest.raises(
        ValueError, match=r'was evaluated on several datasets: see tools\.elsewhere'
    ):
        record.record(folder, folder)


def test_what_a_run_started_from_is_told(folder):
    source = {'sha256': 'a', 'loaded': ['x', 'y'], 'missing': ['layer4.0.z'], 'unused': []}
    files.write_json(folder / 'pretrained.json', {'sources': [source]})
    kept = record.record(folder, folder)
    assert kept['pretrained'] == [source | {'loaded': 2, 'unused': 0}]
    assert 'seed 3, 2 of 3 tensors pretrained, 2 cores' in rows_lib.describe_run(
        kept | {'remark': ''}
    )


def test_time_of_a_run_that_was_killed_is_not_known(folder):
    killed = SESSIONS[:1] + SESSIONS
    (folder / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, killed)) + '\n')
    described = record.describe_sessions(folder)
    assert (described['started'], described['seconds']) == (2, None)


def test_a_run_of_which_nobody_knows_how_it_was_trained_is_refused(folder, tmp_path):
    (folder / 'sessions.jsonl').unlink()
    both = tmp_path / 'run+other'
    shutil.copytree(folder / 'evaluation', both / 'evaluation')
    workdirs = [{'workdir': str(folder), 'checkpoint': 'best'}] * 2
    files.write_json(both / 'evaluation/test/evaluation.json', {'workdirs': workdirs})
    for make in (
        lambda: record.record(folder, folder),
        lambda: record.record_combination(both),
    ):
        with pytest.raises(ValueError, match=r'run has no sessions\.jsonl, which says by which'):
            make()
    (folder / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, SESSIONS)) + '\n')
    with pytest.raises(ValueError, match='holds an evaluation of several runs: name it alone'):
        record.record(folder, both)


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
    for one in (folder, other):
        about = {'flip_average': False, 'checkpoint': 'best'}
        files.write_json(one / 'evaluation/validation/evaluation.json', about)
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
    # Evaluated elsewhere, with another setting.
    about['flip_average'] = True
    elsewhere = tmp_path / 'flipped'
    shutil.copytree(other / 'evaluation', elsewhere / 'evaluation')
    files.write_json(elsewhere / 'evaluation/validation/evaluation.json', about)
    trial = record.record_trial(folder, folder, elsewhere)
    assert trial['config'] == {'evaluate.flip_average': True}
    assert trial['minus_baseline']['age/mae'] == -1.25
    about['overrides'] = {'model.dtype': 'bfloat16'}
    files.write_json(elsewhere / 'evaluation/validation/evaluation.json', about)
    trial = record.record_trial(folder, folder, elsewhere)
    assert trial['config'] == {'evaluate.flip_average': True, 'model.dtype': 'bfloat16'}


def test_runs_evaluated_together_are_recorded_with_their_names(folder, tmp_path):
    both = tmp_path / 'run+other'
    shutil.copytree(folder / 'evaluation', both / 'evaluation')
    with pytest.raises(
        ValueError, match=r'run\+other has no config.json and holds no evaluation of'
    ):
        record.record_combination(both)

    def recorded(checkpoint):
        workdirs = [{'workdir': str(folder), 'checkpoint': checkpoint}] * 2
        files.write_json(both / 'evaluation/test/evaluation.json', {'workdirs': workdirs})
        return record.record_combination(both)

    command = 'python launch.py --mode=evaluate --workdir=run,run'
    assert recorded('last')['command'] == f'{command} --checkpoint=last'
    kept = recorded('best')
    assert kept['command'] == command
    assert (kept['machine'], kept['versions']) == ('2 cores of X', SESSIONS[0]['versions'])
    assert kept['commit'] == record.record(folder, folder)['commit']
    assert (kept['runs'], kept['seconds']) == (['run', 'run'], 1200.0)
    assert rows_lib.describe_run(kept | {'remark': ''}).endswith(
        ', of run, run, 2 cores of X, 20 min'
    )


def test_runs_of_several_machines_and_with_other_settings_are_told_apart(folder, tmp_path):
    both, second = tmp_path / 'run+other', tmp_path / 'second'
    shutil.copytree(folder / 'evaluation', both / 'evaluation')
    shutil.copytree(folder, second)
    versions = SESSIONS[0]['versions'] | {'jax': 'newer'}
    sessions = [SESSIONS[0] | {'machine': '8 x Y', 'versions': versions}, *SESSIONS[1:]]
    (second / 'sessions.jsonl').write_text('\n'.join(map(json.dumps, sessions)) + '\n')
    runs: list[dict[str, Any]] = [
        {'workdir': str(path), 'checkpoint': 'best'} for path in (folder, second)
    ]
    runs[0]['overrides'] = {'model.dtype': 'bfloat16'}
    about = {'workdirs': runs, 'members': [0, 1], 'weights': {}, 'scales': [0.9, 1.1]}
    files.write_json(both / 'evaluation/test/evaluation.json', about)
    kept = record.record_combination(both)
    assert kept['machine'] == '2 cores of X and 8 x Y'
    assert kept['versions'] == {k: v for k, v in versions.items() if k != 'jax'}
    assert kept['command'].split()[4:] == [
        '--config.evaluate.scales=0.9',
        '--config.evaluate.scales=1.1',
        '--config.ensemble.weights=validation',
        '--config.model.dtype=bfloat16',
    ]
    validation = both / 'evaluation/validation'
    shutil.copytree(both / 'evaluation/test', validation)
    assert record.record_combination(both)['command'] == kept['command']
    files.write_json(validation / 'evaluation.json', about | {'scales': [0.9]})
    with pytest.raises(ValueError, match='validation was evaluated with other settings than the'):
        record.record_combination(both)
    shutil.rmtree(validation)
    runs[1]['member'] = 2
    files.write_json(both / 'evaluation/test/evaluation.json', about)
    with pytest.raises(ValueError, match=r'a member of .*second takes part alone: take it'):
        record.record_combination(both)
