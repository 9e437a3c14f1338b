import pytest

from tools import kept


@pytest.mark.parametrize(
    ('said', 'cleaned'),
    [
        (
            "--workdir='/home/al ice/runs/x' --d=~/a/w.npz,../../b/v.npz",
            '--workdir=x --d=w.npz,v.npz',
        ),
        ('--config configs/a.py --n=/a//b/w#2', "--config=configs/a.py '--n=w#2'"),
        ('--coordinator=host:1 --process_id=1 --p=hf://a/b/c', '--p=hf://a/b/c'),
        (f'--config={kept.ROOT}/configs/a.py', '--config=configs/a.py'),
        ('\'--p={"a": 1, "b": "/x/y"}\'', '\'--p={"a": 1, "b": "/x/y"}\''),
    ],
)
def test_a_command_is_kept_without_folders_and_addresses(said, cleaned):
    assert kept.clean_command(f'python launch.py {said}') == f'python launch.py {cleaned}'
