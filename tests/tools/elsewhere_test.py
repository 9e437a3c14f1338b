import json

import pytest

from hybrid import files
from hybrid.scores import report
from tests import finished_run
from tools import elsewhere


@pytest.fixture
def models(folder, tmp_path, monkeypatch):
    """Arguments for two models: one with a workdir and an evaluation elsewhere, and another."""
    monkeypatch.setattr(elsewhere, 'PATH', tmp_path / 'elsewhere.json')
    other = tmp_path / 'wiki'
    finished_run.make(tmp_path / 'both')
    about = {'checkpoint': 'best', 'flip_average': False}
    for place, name, predicted in (
        (folder / 'evaluation/test', 'utkface/default/1.0.0', [21, 33, 40, 46]),
        (other / 'evaluation/imdb_wiki/test', 'imdb_wiki/wiki/1.0.0', [28, 30, 40, 50]),
        (tmp_path / 'both/evaluation/wiki/test', 'imdb_wiki/wiki/1.0.0', [24, 30, 40, 50]),
    ):
        rows = finished_run.rows([20, 30, 40, 50], predicted, [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.9])
        report.write_report(rows, place, 'title')
        files.write_json(place / 'evaluation.json', about | {'dataset': name})
    (tmp_path / 'both/evaluation/test/evaluation.json').unlink()
    monkeypatch.setattr(elsewhere, 'RESULTS', tmp_path)
    a = ['--model', 'a', 'UTKFace', f'{folder},{other}']
    return [*a, '--model', 'b', 'both', f'{tmp_path}/both']


def test_models_are_compared_on_each_dataset(models, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['elsewhere', *models, '--remark=shared', '--predictions'])
    elsewhere.main()
    found = json.loads(elsewhere.PATH.read_text())['test']
    assert found['a']['scores']['utkface/default/1.0.0']['age/mae'] == 2
    assert found['a']['scores']['imdb_wiki/wiki/1.0.0']['age/mae'] == 2
    # Of the other one WIKI alone, where it errs by 4 years instead of 8 once.
    assert found['b']['less_first']['imdb_wiki/wiki/1.0.0']['age/mae'] == -1
    assert '/secret' not in elsewhere.PATH.read_text()
    names = {path.name for path in (tmp_path / 'predictions/elsewhere').iterdir()}
    assert names == {f'{name}.test.csv.gz' for name in ('a.utkface', 'a.imdb_wiki', 'b.imdb_wiki')}
    table = elsewhere.table(found)
    assert table[0].startswith('| trained on | UTKFace: MAE | UTKFace: gender, % |')
    assert table[2].startswith('| UTKFace (`a`) | 2.00 (')
    assert table[2].endswith('`abc`, seed 3, 2 cores of X (shared), 10 min |')
    assert table[3].startswith('| both (`b`) |  |  |  | 1.00 (')
    assert '; -1.00 (-' in table[3]
    assert '| 100.0 / 100.0 |' in table[3]


def test_a_model_that_was_not_evaluated_is_an_error_in_one_line(models, monkeypatch):
    monkeypatch.setattr('sys.argv', ['elsewhere', *models, '--split=validation'])
    with pytest.raises(SystemExit, match=r'error: .*run was not evaluated on validation$'):
        elsewhere.main()
    assert not elsewhere.PATH.exists()
