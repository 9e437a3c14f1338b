from typing import Any

import pytest

from hybrid import files
from hybrid.scores import metrics, report
from tests import finished_run
from tools import peers, record


@pytest.fixture
def peer(tmp_path):
    """The record of what benchmarks/peers.py leaves, of four faces."""
    test = tmp_path / 'evaluation' / 'test'
    test.mkdir(parents=True)
    faces = finished_run.rows([5, 30, 40, 61], [9, 33, 40, 51], [0, 1, 0, 1], [0.1, 0.9, 0, 0])
    (test / 'metrics.json').write_text(report.to_json(metrics.compute_metrics(faces)))
    files.write_json(test / 'evaluation.json', {})
    about = {
        'command': 'python benchmarks/peers.py --environment=/x/P --workdir=/x/out',
        'commit': 'abc',
        'machine': '2 cores of X',
        'versions': {'a-package': '2'},
        'seconds': 61,
        'dataset': {'name': 'd/default/1.0.0', 'splits': {'test': {'sha256': 'a'}}},
        'peer': {'trained_on': 'private images', 'crop': 'border=50', 'found': 0.875},
    }
    files.write_json(tmp_path / 'peer.json', about)
    return record.record_peer(tmp_path)


def test_a_package_is_recorded_and_shown_beside_ours(peer):
    assert peer['command'] == 'python benchmarks/peers.py --environment=P --workdir=out'
    shown: dict[str, Any] = {'label': 'a-package 2', 'remark': 'shared', 'name': 'theirs'}
    ours = {k: v for k, v in peer.items() if k != 'peer'} | {'name': 'ours', 'summary': 'one'}
    published = {'others': {'age MAE': '5.08', '61+': '6.7', 'run': 'outside'}}
    _, _, constant, one, theirs, others = peers.table([ours, peer | shown], published)
    assert constant == '| constant predictor |  | 16.50 | 25.0 | 50.0 |' + '  |' * 6
    # Errors of a child, of two people between 26 and 40, of one aged 61.
    bands = ' | 4.0 |  | 1.5 |  | 10.0 | '
    assert one.startswith('| one | train of `d/default/1.0.0` | 4.25 (')
    assert one.endswith(f'{bands}[`abc`](ours.json) |')
    assert theirs.startswith('| a-package 2 | private images | 4.25 (')
    assert theirs.endswith(
        f'{bands}`abc`, `border=50`, 87.5 % of faces found, 2 cores of X (shared), 1 min |'
    )
    assert others == '| others |  | 5.08 |' + '  |' * 6 + ' 6.7 | outside |'
    other = ours | {'dataset': {'splits': {'test': {'sha256': 'b'}}}, 'label': 'o'}
    with pytest.raises(ValueError, match='different test examples: o, a-package 2'):
        peers.table([other, peer | shown], {})
