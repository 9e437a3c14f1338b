"""Several processes on this machine, over gloo."""

import json
import re
import signal
import socket
import time

import jax
import numpy as np
import optax
import pytest

from hybrid import devices
from hybrid.runs import trained, workdir
from tests.launching import launch, start, tiny_flags, wait_until

end_to_end = pytest.mark.end_to_end


def test_clusters_are_found_in_the_environment():
    find = devices.cluster_from_environment
    assert find({}) is None
    torchrun = {'MASTER_ADDR': 'a', 'MASTER_PORT': '1', 'WORLD_SIZE': '2', 'RANK': '1'}
    assert find(torchrun) == {
        'coordinator_address': 'a:1',
        'num_processes': 2,
        'process_id': 1,
    }
    assert find({**torchrun, 'WORLD_SIZE': '1'}) is None
    local = {'LOCAL_WORLD_SIZE': '2', 'LOCAL_RANK': '1'}
    assert find(torchrun | local) == {**(find(torchrun) or {}), 'local_device_ids': [1]}
    assert find(torchrun | local | {'LOCAL_WORLD_SIZE': '1'}) == find(torchrun)
    del torchrun['MASTER_PORT']
    with pytest.raises(ValueError, match='MASTER_ADDR is set, but not MASTER_PORT'):
        find(torchrun)
    srun = {'SLURM_STEP_NODELIST': 'n[1-2]', 'SLURM_STEP_NUM_TASKS': '2', 'SLURM_NTASKS': '2'}
    assert find(srun) == {}
    # A batch script itself, before srun, is one process.
    assert find({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'}) is None
    assert find({'OMPI_COMM_WORLD_SIZE': '4'}) == {}
    assert find({'OMPI_COMM_WORLD_SIZE': '1'}) is None
    assert find({'TPU_WORKER_HOSTNAMES': 'a,b'}) == {}
    assert find({'TPU_WORKER_HOSTNAMES': 'localhost'}) is None


def test_a_coordinator_needs_both_numbers():
    with pytest.raises(
        ValueError, match=r'needs --num_processes \(is 2\) and --process_id \(is 2\)'
    ):
        devices.initialize('localhost:1', 2, 2)


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]


def start_two(flags, **kwargs):
    coordinator = f'--coordinator=localhost:{free_port()}'
    return [
        start(*flags, coordinator, '--num_processes=2', f'--process_id={i}', devices=2, **kwargs)
        for i in range(2)
    ]


def flags(data_dir, folder):
    return [
        *tiny_flags(data_dir, folder),
        '--config.train.num_steps=14',
        '--config.train.log_every_steps=1',
        '--config.train.eval_every_steps=7',
        '--config.train.checkpoint_every_steps=4',
        '--config.model.head.dropout=0.5',
        '--config.evaluate.batch_size=16',
    ]


def read(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def without_clock(rows):
    return [{k: v for k, v in row.items() if 'per_second' not in k} for row in rows]


def finish(processes):
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err


@end_to_end
def test_two_processes_train_and_evaluate_the_same_and_survive_a_loss(tiny_data_dir, tmp_path):
    status, _, err = launch(*flags(tiny_data_dir, tmp_path / 'one'))
    assert status == 0, err
    finish(start_two(flags(tiny_data_dir, tmp_path / 'two')))

    # Two processes of two devices each, from the same batches: the same losses.
    one, two = read(tmp_path / 'one'), read(tmp_path / 'two')
    assert [row['step'] for row in one] == [row['step'] for row in two]
    for name in ('train/loss', 'train/age_mae', 'train/gender_loss'):
        np.testing.assert_allclose(
            [row[name] for row in two if name in row][:10],
            [row[name] for row in one if name in row][:10],
            rtol=1e-5,
        )
    results = [
        json.loads((tmp_path / n / 'evaluation/test/metrics.json').read_text())
        for n in ('one', 'two')
    ]
    assert results[0]['num_examples'] == results[1]['num_examples'] == 41
    assert results[0]['age/mae'] == pytest.approx(results[1]['age/mae'], rel=1e-2)

    # One is killed: the other ends within a minute, saying why.
    folder = tmp_path / 'killed'
    processes = start_two(flags(tiny_data_dir, folder))
    wait_until(lambda: (folder / 'checkpoints' / '4').exists(), processes[0])
    processes[1].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    _, err = processes[0].communicate(timeout=60)
    assert time.monotonic() - begin < 60
    assert processes[0].returncode != 0
    assert re.search('another process of this run has gone|another task died', err), err
    assert 'Fatal Python error' not in err
    processes[1].communicate()

    # Both started again end as if nothing had been.
    finish(start_two(flags(tiny_data_dir, folder)))
    assert without_clock(read(folder)) == without_clock(two)
    for name in ('metrics.json', 'predictions.csv'):
        path = f'evaluation/test/{name}'
        assert (folder / path).read_bytes() == (tmp_path / 'two' / path).read_bytes()


@pytest.mark.slow
@end_to_end
def test_one_step_of_two_processes_is_that_of_one(tiny_data_dir, tmp_path):
    step = ['--config.train.num_steps=1', '--config.data.test_split=']
    status, _, err = launch(*flags(tiny_data_dir, tmp_path / 'one'), *step)
    assert status == 0, err
    finish(start_two([*flags(tiny_data_dir, tmp_path / 'two'), *step]))
    one, two = (read(tmp_path / name)[0]['train/loss'] for name in ('one', 'two'))
    assert two == pytest.approx(one, rel=1e-6)

    def params(folder):
        config = workdir.load_config(folder)
        return jax.device_get(trained.restore(config, folder, 'last')[1].params)

    a, b = params(tmp_path / 'one'), params(tmp_path / 'two')
    difference = optax.tree.norm(jax.tree.map(lambda x, y: x - y, a, b))
    assert float(difference / optax.tree.norm(a)) < 1e-5
