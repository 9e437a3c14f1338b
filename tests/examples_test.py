"""The notebooks of examples/: short, without outputs, and they run from top to bottom."""

import ast
import os
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'examples').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == 'markdown' or (cell.outputs, cell.execution_count) == ([], None)


def run(name, folder, monkeypatch):
    """Runs a notebook in an empty folder; returns what each of its cells printed or showed."""
    monkeypatch.setenv(
        'PYTHONPATH', os.pathsep.join(filter(None, [str(ROOT), os.getenv('PYTHONPATH')]))
    )
    monkeypatch.delenv('MPLBACKEND')  # Pictures go into the notebook.
    notebook = nbformat.read(ROOT / 'examples' / f'{name}.ipynb', as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(folder)}}
    )
    client.execute()
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == 'code']
    errors = [o.text for outputs in cells for o in outputs if o.get('name') == 'stderr']
    assert not [text for text in errors if 'WARNING' in text]  # Progress, but no library's log.
    return [
        ''.join(o.get('text') or o.get('data', {}).get('text/plain', '') for o in outputs)
        for outputs in cells
    ]


@pytest.mark.end_to_end
def test_predict(tmp_path, monkeypatch):
    *_, loaded, _, printed, figure, rows = run('predict', tmp_path, monkeypatch)
    assert loaded.splitlines()[-1].startswith('Model(')
    assert printed.count('male') == 6
    assert figure == '<Figure size 1200x260 with 6 Axes>'
    first, second = (ast.literal_eval(line) for line in rows.splitlines())
    assert (first['width'], first['error'], Path(second['path']).name) == (96, None, 'face_1.png')
    assert first['age'] == pytest.approx(float(printed.strip('[').split()[0]), abs=0.051)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.end_to_end
def test_train_own_faces(tmp_path, monkeypatch):
    _, written, _, metrics, table, figure = run('train_own_faces', tmp_path, monkeypatch)
    assert written.startswith('path,age,gender\n000.png,')
    assert 'mean absolute error' in metrics.splitlines()[-1]
    assert len(table.splitlines()) == 13
    assert figure.endswith('with 1 Axes>')
    assert list(tmp_path.iterdir()) == []
