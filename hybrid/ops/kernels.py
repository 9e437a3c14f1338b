"""Which kernels the convolutions take on this machine's CPU, and the flag that XLA needs for them.

`config.model.kernels` is 'auto', or one of `convolution.KERNELS`. XLA calls oneDNN, which knows the
instructions that a CPU has for bfloat16, only if a flag says so before JAX starts. The flag is the
process's: with it XLA takes oneDNN for convolutions and for products with a transposed operand,
such as the gradients of kernels. 'auto' is 'onednn' where that was measured to be faster: in
float32 on CPUs with AVX-512, in bfloat16 on those with AVX512-BF16 or AMX. What was taken is
written to the workdir's config.json, and a training that is continued takes the same again.
"""

import importlib.metadata
import importlib.util
import logging
import mmap
import os
import pathlib
import re

from ml_collections import ConfigDict

_LOG = logging.getLogger(__name__)

_FLAG = 'xla_cpu_experimental_onednn_custom_call'
# The first release whose CPU library has oneDNN: those before know the flag and do nothing.
_FIRST_JAXLIB = (0, 12)
# What a CPU must have, one of each, as Linux names it.
_WANTED = {'float32': {'avx512f'}, 'bfloat16': {'avx512_bf16', 'amx_bf16'}}


def cpu_features() -> frozenset[str]:
    """What this CPU can do, as Linux names it; empty on other systems and processors than x86."""
    try:
        text = pathlib.Path('/proc/cpuinfo').read_text()
    except OSError:
        return frozenset()
    found = re.search(r'^flags\s*:(.*)$', text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def has_onednn() -> bool:
    """Whether the installed jaxlib can call oneDNN; reads the library, does not start it."""
    version = importlib.metadata.version('jaxlib')
    if tuple(map(int, re.findall(r'\d+', version)[:2])) < _FIRST_JAXLIB:
        return False
    package = importlib.util.find_spec('jaxlib')
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        library = pathlib.Path(folder) / 'libjax_common.so'
        if library.is_file():
            # XLA ends the program at a flag that it does not know, and this one is experimental.
            with (
                library.open('rb') as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                return content.find(_FLAG.encode()) >= 0
    return False


def _user_says() -> bool | None:
    """Whether XLA_FLAGS switches oneDNN on or off; None if it does not say."""
    flags = os.environ.get('XLA_FLAGS', '').strip()
    if flags and not flags.startswith('-'):
        return False  # It names a file, to which no flag can be added.
    found = re.findall(rf'--{_FLAG}(?:=(\S+))?', flags)
    return found[-1].lower() not in ('false', '0') if found else None


def fastest(dtype: str) -> str:
    """The kernels that are fastest on this machine in a compute dtype, such as 'bfloat16'."""
    if _user_says() is False or not cpu_features() & _WANTED.get(dtype, set()) or not has_onednn():
        return 'portable'
    return 'onednn'


def settle(config: ConfigDict, recorded: str = 'auto') -> None:
    """Replaces 'auto' in `config.model.kernels`, and switches on in XLA what that needs.

    Call it before JAX starts.

    Args:
      config: The run's config, which is changed.
      recorded: What the run was trained with before, if it is continued.

    Raises:
      ValueError: when the config asks for what this machine does not have.
    """
    wanted = config.model.kernels
    lacking = _user_says() is False or not has_onednn()
    if wanted == 'onednn' and lacking:
        raise ValueError(
            "config.model.kernels='onednn': this jaxlib cannot call oneDNN, or XLA_FLAGS forbids "
            "it or names a file; take 'auto' or 'portable' (oneDNN comes with jaxlib 0.12, so with "
            'Python 3.12)'
        )
    if wanted == 'auto' and recorded == 'onednn' and fastest(config.model.dtype) != 'onednn':
        _LOG.warning(
            'this training began with config.model.kernels=onednn, for which this CPU, this jaxlib '
            'or XLA_FLAGS are not made; it goes on with portable, and its results will differ in '
            'their last bits'
        )
        recorded = 'portable'
    if wanted == 'auto':
        wanted = recorded if recorded != 'auto' else fastest(config.model.dtype)
    with config.unlocked():
        config.model.kernels = wanted
    if wanted == 'onednn' and _user_says() is None:
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --{_FLAG}=true'.strip()


def settle_late(config: ConfigDict, recorded: str = 'auto') -> None:
    """Does what `settle` does where JAX was imported before: too late to switch anything on in XLA.

    Unless oneDNN was switched on earlier, the kernels are 'portable', and that is no error.

    Args:
      config: The run's config, which is changed.
      recorded: What the run was trained with before, if it is continued.
    """
    wanted = config.model.kernels
    if wanted == 'auto':
        wanted = recorded if recorded != 'auto' else resolve('auto', config.model.dtype)
    if wanted == 'onednn' and not _user_says():
        wanted = 'portable'
        if recorded == 'onednn':
            _LOG.warning(
                'this training began with config.model.kernels=onednn, which has to be switched on '
                'before JAX is imported; it goes on with portable, and its results will differ in '
                'their last bits'
            )
    with config.unlocked():
        config.model.kernels = wanted


def resolve(kernels: str, dtype: str) -> str:
    """The kernels of a model: 'auto' is what was switched on before JAX started, if that is fast.

    Args:
      kernels: `config.model.kernels`.
      dtype: `config.model.dtype`.
    """
    if kernels != 'auto':
        return kernels
    return 'onednn' if _user_says() and fastest(dtype) == 'onednn' else 'portable'
