"""Files of named tensors, as other programs write them: safetensors and npz, never a pickle."""

import hashlib
import lzma
import pathlib
import shlex
import zipfile
import zlib

import numpy as np
import safetensors
import safetensors.numpy

# What PyTorch saves; reading one runs whatever code is in it.
_PICKLES = ('.pth', '.pt', '.bin', '.ckpt', '.pkl', '.tar')
_CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    "w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "w = next((w[k] for k in ('state_dict', 'model_state_dict', 'model', 'net', 'teacher') "
    'if isinstance(w.get(k), dict)), w); '
    "t = {k: v.clone().contiguous() for k, v in w.items() if hasattr(v, 'clone')}; "
    "t or sys.exit('no tensors there, but ' + ', '.join(w)); save_file(t, sys.argv[2])\""
)


def check_suffix(path: pathlib.Path) -> None:
    """Checks the kind of a file by its name.

    Raises:
      ValueError: for a pickle, with the command that converts it; for any other kind.
    """
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        source, target = (shlex.quote(str(p)) for p in (path, path.with_suffix('.safetensors')))
        raise ValueError(
            f'{path} is a pickle, which is not read here. Where torch and safetensors are '
            f'installed, this converts it: {_CONVERT} {source} {target}'
        )
    if suffix not in ('.safetensors', '.npz'):
        remedy = '; tools/convert_dlib_resnet.py converts those of dlib' if suffix == '.dat' else ''
        raise ValueError(
            f'{path}: weights are read from .safetensors and .npz, not {suffix!r}{remedy}'
        )


def check_file(path: pathlib.Path) -> None:
    """Checks what can be seen without opening a file.

    Raises:
      ValueError: as `check_suffix`.
      FileNotFoundError: when there is none.
    """
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file')


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a file, in the types that they have there (bfloat16 of ml_dtypes).

    Raises:
      ValueError: for another kind of file, or one that is damaged.
      FileNotFoundError: when there is none.
    """
    check_file(path)
    try:
        if path.suffix.lower() == '.npz':
            with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays}
        return safetensors.numpy.load_file(path)
    except (
        *(safetensors.SafetensorError, zipfile.BadZipFile, zlib.error),
        *(ValueError, KeyError, TypeError, AttributeError, EOFError),
        # Of damaged archives and headers, such as one with an enormous shape.
        *(lzma.LZMAError, RuntimeError, MemoryError, OSError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if 'Object arrays' in reason:
            raise ValueError(
                f'{path} holds pickled objects, which are not read; save its arrays alone'
            ) from None
        if 'float8' in reason or 'float4' in reason:
            raise ValueError(f'{path}: {reason}; save its tensors as float32') from None
        raise ValueError(
            f'{path} is damaged, or not what its name says ({reason}); fetch it again'
        ) from None


def sha256(path: pathlib.Path) -> str:
    """Hash of a file's content, hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
