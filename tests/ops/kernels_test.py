import os
import subprocess
import sys

import pytest

from hybrid.ops import kernels
from hybrid.runs import workdir

FLAG = '--xla_cpu_experimental_onednn_custom_call'


@pytest.fixture
def machine(monkeypatch):
    """Sets what CPU and jaxlib there are, and the flags; None for a jaxlib that lacks oneDNN."""

    def make(features, onednn=True, flags=''):
        monkeypatch.setattr(kernels, 'cpu_features', lambda: frozenset(features.split()))
        monkeypatch.setattr(kernels, 'has_onednn', lambda: onednn)
        monkeypatch.setenv('XLA_FLAGS', flags)

    return make


def settle(config, wanted='auto', dtype='float32', recorded='auto'):
    config.model.kernels, config.model.dtype = wanted, dtype
    kernels.settle(config, recorded)
    return config.model.kernels, os.environ['XLA_FLAGS']


@pytest.mark.parametrize(
    ('features', 'dtype', 'expected'),
    [
        ('sse2 avx2', 'float32', 'portable'),
        ('avx2 avx512f', 'float32', 'onednn'),
        ('avx2 avx512f', 'bfloat16', 'portable'),
        ('avx512f avx512_bf16', 'bfloat16', 'onednn'),
        ('avx512f amx_bf16', 'bfloat16', 'onednn'),
        ('', 'float32', 'portable'),
    ],
)
def test_auto_is_chosen_by_what_the_cpu_can_do(machine, tiny_config, features, dtype, expected):
    machine(features, flags='--xla_dump_to=x')
    flags = f'--xla_dump_to=x {FLAG}=true' if expected == 'onednn' else '--xla_dump_to=x'
    assert settle(tiny_config, dtype=dtype) == (expected, flags)
    # A process that was started so builds its models so.
    assert kernels.resolve('auto', dtype) == expected
    assert kernels.resolve('xla', dtype) == 'xla'


def test_a_jaxlib_without_it_or_a_flag_that_says_no(machine, tiny_config):
    machine('avx512f', onednn=False)
    assert settle(tiny_config) == ('portable', '')
    machine('avx512f', flags=f'{FLAG}=false')
    assert settle(tiny_config) == ('portable', f'{FLAG}=false')
    assert kernels.resolve('auto', 'float32') == 'portable'
    machine('avx512f', flags=f'{FLAG}')
    assert settle(tiny_config) == ('onednn', FLAG)
    for onednn, flags in ((False, ''), (True, f'{FLAG}=false')):
        machine('avx512f', onednn, flags)
        with pytest.raises(ValueError, match=r"config\.model\.kernels='onednn': this jaxlib"):
            settle(tiny_config, 'onednn')


def test_by_hand(machine, tiny_config):
    machine('avx512f avx512_bf16')
    assert settle(tiny_config, 'portable') == ('portable', '')
    assert settle(tiny_config, 'xla') == ('xla', '')
    machine('avx2')
    assert settle(tiny_config, 'onednn') == ('onednn', f'{FLAG}=true')


def test_a_continued_training_keeps_what_it_began_with(machine, tiny_config, caplog):
    machine('avx512f')
    assert settle(tiny_config, recorded='portable') == ('portable', '')
    # A command that says otherwise is obeyed.
    assert settle(tiny_config, 'onednn', recorded='portable')[0] == 'onednn'
    assert settle(tiny_config, recorded='onednn') == ('onednn', f'{FLAG}=true')
    assert not caplog.records
    for features, onednn in (('avx512f', False), ('avx2', True)):
        machine(features, onednn)
        assert settle(tiny_config, recorded='onednn') == ('portable', '')
        assert 'its results will differ in their last bits' in caplog.text
        caplog.clear()


def test_a_file_of_flags_is_left_alone(machine, tiny_config):
    machine('avx512f', flags='/tmp/flags.txt')
    assert settle(tiny_config) == ('portable', '/tmp/flags.txt')
    with pytest.raises(ValueError, match='or names a file'):
        settle(tiny_config, 'onednn')


def test_what_a_workdir_was_trained_with(tmp_path, tiny_config):
    assert workdir.recorded_kernels(tmp_path) == 'auto'
    tiny_config.model.kernels = 'onednn'
    workdir.save_config(tmp_path, tiny_config)
    assert workdir.recorded_kernels(tmp_path) == 'onednn'
    # Before there was the key there was one kind.
    with tiny_config.unlocked():
        del tiny_config.model.kernels
    workdir.save_config(tmp_path, tiny_config)
    assert workdir.recorded_kernels(tmp_path) == 'portable'


def test_before_a_model_is_made_nothing_is_switched_on(machine):
    machine('avx512f')
    assert kernels.resolve('auto', 'float32') == 'portable'


@pytest.mark.skipif(not kernels.has_onednn(), reason='this jaxlib cannot call oneDNN')
def test_the_flag_has_xla_call_onednn():
    code = """
import jax, jax.numpy as jnp
from hybrid.ops import convolution
x, k = jnp.ones((4, 12, 12, 16), jnp.bfloat16), jnp.ones((3, 3, 16, 16), jnp.bfloat16)
def run(x, k):
    return convolution.convolution(x, k, (1, 1), ((1, 1), (1, 1)), 'onednn')
def both(x, k, dy):
    return jax.vjp(run, x, k)[1](dy)
print(jax.jit(run).lower(x, k).compile().as_text().count('__onednn$convolution'))
print(jax.jit(both).lower(x, k, x).compile().as_text().count('__onednn$convolution'))
"""
    environment = os.environ | {'XLA_FLAGS': f'{FLAG}=true', 'JAX_PLATFORMS': 'cpu'}
    output = subprocess.check_output([sys.executable, '-c', code], env=environment, text=True)
    assert output.split() == ['1', '1']


@pytest.mark.skipif(not kernels.has_onednn(), reason='this jaxlib cannot call oneDNN')
@pytest.mark.parametrize('cell', ['gru', 'dense'])
def test_all_that_reads_a_sequence_compiles_for_onednn(cell):
    """In bfloat16 `nn.Dense` before a norm in float32 does not."""
    code = f"""
import flax.linen as nn, jax, jax.numpy as jnp
from hybrid.models import recurrent, sequence
class Both(nn.Module):
    def setup(self):
        self.patches = sequence.Patches(('a', 'b'), 'raster', 32, jnp.bfloat16)
        self.recurrent = recurrent.Recurrent({cell!r}, 32, True, 'mean', jnp.bfloat16)
    def __call__(self, maps):
        return self.recurrent(*self.patches(maps))
maps = [jnp.ones((128, 4, 4, 64), jnp.bfloat16), jnp.ones((128, 2, 2, 128), jnp.bfloat16)]
variables = Both().init(jax.random.key(0), maps)
jax.jit(Both().apply).lower(variables, maps).compile()
jax.jit(jax.grad(lambda v: Both().apply(v, maps).sum())).lower(variables).compile()
print('compiled')
"""
    environment = os.environ | {'XLA_FLAGS': f'{FLAG}=true', 'JAX_PLATFORMS': 'cpu'}
    output = subprocess.check_output([sys.executable, '-c', code], env=environment, text=True)
    assert output.split() == ['compiled']
