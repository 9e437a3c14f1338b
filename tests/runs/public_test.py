import pathlib

import pytest

from hybrid.runs import public

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ('said', 'cleaned'),
    [
        (
            "--workdir='/home/al ice/runs/x' --d=~/a/w.npz,../../b/v.npz",
            '--workdir=x --d=w.npz,v.npz',
        ),
        ('--config configs/a.py --n=/a//b/w#2', "--config=configs/a.py '--n=w#2'"),
        ('--coordinator=host:1 --process_id=1 --p=hf://a/b/c', '--p=hf://a/b/c'),
        (f'--config={ROOT}/configs/a.py', '--config=configs/a.py'),
        ('\'--p={"a": 1, "b": "/x/y"}\'', '\'--p={"a": 1, "b": "y"}\''),
        ('--workdir /home/alice/x --debug', '--workdir=x --debug'),
        ('-f /home/alice/kernel.json', '-f kernel.json'),
        ("--init_from='runs/a, /home/alice/b'", '--init_from=runs/a,b'),
        ('--coordinator host:1 --num_processes 2', ''),
    ],
)
def test_a_command_is_kept_without_folders_and_addresses(said, cleaned):
    assert public.clean_command(f'python launch.py {said}') == f'python launch.py {cleaned}'.strip()
