import json
import os
import re
import subprocess
import sys

import pytest

import hybrid
from hybrid.runs import provenance
from tests.launching import ROOT


def git(folder, *arguments):
    identity = ['-c', 'user.name=n', '-c', 'user.email=e']
    subprocess.run(['git', '-C', folder, *identity, *arguments], check=True, capture_output=True)


def test_commit_names_the_checkout_and_says_whether_files_differ(tmp_path):
    package = tmp_path / 'package'
    package.mkdir()
    assert provenance.commit(package) == ''
    git(tmp_path, 'init')
    (package / 'a.py').write_text('1')
    assert provenance.commit(package) == ''  # in a checkout, but no part of it
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-m', 'first')
    head = subprocess.run(
        ['git', '-C', tmp_path, 'rev-parse', 'HEAD'], check=True, capture_output=True, text=True
    ).stdout
    assert provenance.commit(package) == head[:12]
    (package / 'a.py').write_text('2')
    assert provenance.commit(package) == head[:12] + '+changes'


@pytest.mark.parametrize(
    ('script', 'program'),
    [
        ('/a b/launch.py', 'python launch.py'),
        ('/site-packages/hybrid/__main__.py', 'python -m hybrid'),
        (f'{ROOT}/benchmarks/a.py', 'python benchmarks/a.py'),
        ('', 'python'),
    ],
)
def test_the_command_is_as_it_was_typed(monkeypatch, script, program):
    monkeypatch.setattr('sys.argv', [script, '--mode=train'])
    assert provenance.program() == program


def test_a_session_has_a_start_and_an_end_whatever_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['/somewhere/launch.py', '--config=a b.py'])
    with provenance.session(tmp_path, 0, 'portable'):
        pass
    with pytest.raises(ValueError, match='stop'), provenance.session(tmp_path, 7, 'portable'):
        raise ValueError('stop')
    rows = [json.loads(line) for line in (tmp_path / 'sessions.jsonl').read_text().splitlines()]
    assert [row.get('first_step') for row in rows] == [0, None, 7, None]
    assert rows[0]['command'] == "python launch.py '--config=a b.py'"
    assert rows[0]['versions']['hybrid'] == hybrid.__version__
    assert rows[0]['versions']['jax'] == provenance.versions()['jax']
    assert rows[0]['kernels'] == 'portable'
    assert rows[0]['xla_flags'] == os.environ['XLA_FLAGS']
    assert rows[1]['seconds'] >= 0
    assert rows[1]['ended'] >= rows[0]['started']


def test_a_training_that_goes_on_elsewhere_is_told_that_its_last_bits_differ(
    tmp_path, monkeypatch, caplog
):
    provenance.warn_of_changes(tmp_path, 'portable')  # A run that is older than sessions.jsonl.
    monkeypatch.setattr(provenance, 'machine', lambda: '2 cores of A')
    with provenance.session(tmp_path, 0, 'portable'):
        pass
    provenance.warn_of_changes(tmp_path, 'portable')
    assert not caplog.messages
    monkeypatch.setattr(provenance, 'machine', lambda: '1 core of A')
    versions = provenance.versions()
    jax = versions['jax']
    later = versions | {'jax': '9.9', 'flax': '9.9'}
    monkeypatch.setattr(provenance, 'versions', lambda: later)
    with (tmp_path / 'sessions.jsonl').open('a') as file:
        file.write('7\n')  # By whomever.
    provenance.warn_of_changes(tmp_path, 'onednn')
    assert caplog.messages == [
        f'{tmp_path}: so far trained with 2 cores of A, now 1 core of A; kernels '
        f'portable, now onednn; jax {jax}, now 9.9; the '
        'results will differ in their last bits from those of a training that was not interrupted'
    ]


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere a process is not kept to some cores')
def test_the_machine_has_as_many_cores_as_may_be_used():
    before = os.sched_getaffinity(0)
    assert re.match(rf'{len(before)} cores? of \S', provenance.machine())
    os.sched_setaffinity(0, {min(before)})
    try:
        assert provenance.machine().startswith('1 core of ')
    finally:
        os.sched_setaffinity(0, before)


def test_a_session_after_a_torn_line_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['launch.py'])
    with provenance.session(tmp_path, 0, 'portable'):
        pass
    with (tmp_path / provenance.SESSIONS).open('ab') as file:
        file.write(b'{"started": "20\xff')
    with provenance.session(tmp_path, 5, 'portable'):
        pass
    assert provenance.describe_sessions(tmp_path)['started'] == 2
