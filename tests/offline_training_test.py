import argparse
import tarfile

import pytest

from benchmarks import offline_training

# With --fail the first start fails, with --sleep none ends by itself.
LAUNCH = """
import pathlib, sys, time
workdir = pathlib.Path(sys.argv[1].removeprefix('--workdir='))
(workdir / 'checkpoints').mkdir(exist_ok=True)
(workdir / 'checkpoints' / 'big').touch()
starts = workdir / 'starts'
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text('x' * (count + 1))
print(sys.argv[2:], 'start', count + 1, flush=True)
time.sleep(600 if '--sleep' in sys.argv else 0)
sys.exit(3 if '--fail' in sys.argv and count == 0 else 0)
"""


@pytest.fixture
def options(tmp_path, monkeypatch):
    (tmp_path / 'launch.py').write_text(LAUNCH)
    monkeypatch.setattr(offline_training, 'CHECKOUT', tmp_path)
    plan = tmp_path / 'plan.txt'
    plan.write_text(
        "# A comment.\n\nlr_0.1 --a={there}/w '--b=c d'\nlr_0.2 lr_0.1 --fail  # once\n"
    )
    there = tmp_path / 'there'
    (there / 'runs').mkdir(parents=True)
    return argparse.Namespace(there=there, plan=plan, minutes=2.0, out=tmp_path / 'out')


def names(path):
    with tarfile.open(path) as archive:
        return sorted(archive.getnames())


def test_what_failed_is_taken_up_again_and_what_ended_is_not(options, tmp_path, capsys):
    with pytest.raises(SystemExit, match='a training failed'):
        offline_training.train(options)
    assert 'lr_0.2: status 3' in capsys.readouterr().out
    runs = options.there / 'runs'
    # Each has a log of its own, with {there} filled in and nothing of the other.
    common = f"'--a={options.there}/w', '--b=c d'"
    assert (runs / 'lr_0.1.log').read_text() == f'[{common}] start 1\n'
    assert (runs / 'lr_0.2.log').read_text() == f"[{common}, '--fail'] start 1\n"
    assert names(options.out / 'lr_0.1.tar.gz') == ['lr_0.1', 'lr_0.1.log', 'lr_0.1/starts']
    options.out = tmp_path / 'out2'
    offline_training.train(options)
    assert [path.name for path in options.out.iterdir()] == ['lr_0.2.tar.gz']
    assert (runs / 'lr_0.2.log').read_text().endswith("'--fail'] start 2\n")
    assert (runs / 'lr_0.1' / 'starts').read_text() == 'x'


def test_at_the_end_of_the_minutes_a_training_is_stopped_and_what_it_has_is_kept(
    options, monkeypatch, capsys
):
    monkeypatch.setattr(offline_training, 'LEAST_SECONDS', 0)
    options.plan.write_text('long --sleep\n')
    options.minutes = 5 / 60
    offline_training.train(options)
    assert capsys.readouterr().out.startswith('long: status -15 after ')
    assert names(options.out / 'long.tar.gz') == ['long', 'long.log', 'long/starts']
    assert not (options.there / 'runs/long/finished').exists()


def test_nothing_is_begun_when_the_minutes_are_over(options, capsys):
    options.minutes = 0.0
    offline_training.train(options)
    assert capsys.readouterr().out == 'lr_0.1: not begun\nlr_0.2: not begun\n'
