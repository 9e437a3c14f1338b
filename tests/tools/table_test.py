from typing import Any

import pytest

from hybrid import files
from tools import record, table


def test_the_table_shows_what_the_files_hold(folder, tmp_path):
    shown = {'table': 'utkface', 'label': 'CNN', 'order': 1, 'remark': 'shared'}
    results = tmp_path / 'results'
    results.mkdir()
    files.write_json(results / 'a.json', shown | record.record(folder, folder))
    not_run = {'name': 'b', 'label': 'GRU', 'order': 2, 'command': 'launch.py --x'}
    ran = not_run | {'name': 'a'}
    files.write_json(results / 'not_run.json', {'utkface': [ran, not_run]})
    published = {'theirs': {'age MAE': '4.25', 'gender accuracy': '95.3', 'run': 'published'}}
    files.write_json(results / 'published.json', {'utkface': published})
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
    files.write_json(results / 'c.json', changed)
    with pytest.raises(ValueError, match='runs on different test examples: CNN, CNN'):
        table.render(readme, results)


def test_a_config_shows_the_scores_of_its_run(folder, tmp_path):
    files.write_json(tmp_path / 'a.json', record.record(folder, folder) | {'remark': ''})
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
