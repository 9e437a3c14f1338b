"""Starts launch.py in processes of its own, for tests of the whole program."""

import os
import pathlib
import subprocess
import sys
import time
from importlib import metadata

# Tests compile for minutes what runs for seconds. Not optimised, the same program compiles in a
# quarter of the time, with jax 0.12 in half of it. XLA refuses flags that a version does not have.
COMPILE_QUICKLY = [
    '--xla_backend_optimization_level=0',
    '--xla_cpu_parallel_codegen_split_count=1',
]
if metadata.version('jaxlib').startswith('0.10.'):
    COMPILE_QUICKLY.append('--xla_cpu_use_fusion_emitters=false')
ROOT = pathlib.Path(__file__).resolve().parents[1]

# Knows the encoder `tiny` of conftest.py, and says at the end whether TensorFlow was imported.
RUNNER = f"""
import atexit, runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from hybrid.models import encoders, resnet
encoders.register('tiny', resnet.encoder((1, 1), 'basic'))
unwanted = ('tensorflow',)
loaded = lambda: print('LOADED', [name for name in unwanted if name in sys.modules])
atexit.register(loaded)
sys.argv[0] = 'launch.py'
runpy.run_path({str(ROOT / 'launch.py')!r}, run_name='__main__')
"""


def tiny_flags(data_dir, workdir):
    """Flags of a run that takes seconds."""
    return [
        f'--workdir={workdir}',
        '--config.data.dataset=synthetic_faces/tiny',
        f'--config.data.data_dir={data_dir}',
        '--config.data.image_size=32',
        '--config.data.resize_size=36',
        '--config.model.encoder.name=tiny',
        '--config.model.encoder.width=4',
        '--config.model.recurrent.features=8',
        '--config.train.batch_size=8',
        '--config.train.num_steps=6',
        '--config.train.log_every_steps=2',
    ]


def start(*arguments, devices=1, env=None, stderr=subprocess.PIPE, optimize=False, cwd=ROOT):
    """Starts launch.py on CPU devices, one as users have it unless told otherwise.

    With `optimize` XLA compiles as it does for users, else quickly.
    """
    variables = {**os.environ, **(env or {})}
    xla_flags = [f'--xla_force_host_platform_device_count={devices}']
    variables['XLA_FLAGS'] = ' '.join(xla_flags + ([] if optimize else COMPILE_QUICKLY))
    return subprocess.Popen(
        [sys.executable, '-c', RUNNER, *arguments],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def launch(*arguments, **kwargs):
    """Runs launch.py to its end; (exit status, standard output, standard error)."""
    process = start(*arguments, **kwargs)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_until(condition, process, seconds=300):
    """Waits until the condition holds; says why if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f'ended with {process.returncode}: {process.communicate()}')
        if time.monotonic() > end:
            process.kill()
            raise AssertionError(f'nothing after {seconds} s: {process.communicate()}')
        time.sleep(0.02)
