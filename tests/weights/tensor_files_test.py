import hashlib
import shlex
import subprocess
import sys
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hybrid.weights import tensor_files

TENSORS = {
    'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
    'b.weight': np.array([1.5, -2.0], ml_dtypes.bfloat16),
    'count': np.array(3, np.int64),
}


def test_safetensors_and_npz_are_read_as_they_were_written(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / 'w.safetensors')
    plain: dict[str, Any] = {k: v for k, v in TENSORS.items() if k != 'b.weight'}
    np.savez(tmp_path / 'w.npz', **plain)
    for name, wanted in (('w.safetensors', TENSORS), ('w.npz', plain)):
        got = tensor_files.read(tmp_path / name)
        assert got.keys() == wanted.keys()
        for key, value in wanted.items():
            assert got[key].dtype == value.dtype
            np.testing.assert_array_equal(got[key], value)


def test_hash(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert tensor_files.sha256(tmp_path / 'x') == hashlib.sha256(b'abc').hexdigest()


def test_a_pickled_array_is_refused_and_not_unpickled(tmp_path):
    np.savez(tmp_path / 'w.npz', a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r'w\.npz holds pickled objects, which are not read; save'):
        tensor_files.read(tmp_path / 'w.npz')


def test_damaged_archives_of_any_kind_are_one_clear_error(tmp_path):
    path = tmp_path / 'w.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_LZMA) as archive:
        archive.writestr('a.npy', bytes(1000))
    content = bytearray(path.read_bytes())
    content[45:60] = b'x' * 15
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'w\.npz is damaged'):
        tensor_files.read(path)
    # A header that promises more than there is memory.
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}\n"
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.npy', b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header)
    with pytest.raises(ValueError, match=r'w\.npz is damaged'):
        tensor_files.read(path)


@pytest.mark.parametrize('name', ['w.safetensors', 'w.npz'])
@pytest.mark.parametrize(
    'content', [b'', b'version https://git-lfs', b'PK\3\4abcdefgh', bytes(range(256))]
)
def test_a_damaged_file_is_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name} is damaged, or not what its name says \(') as e:
        tensor_files.read(tmp_path / name)
    assert '\n' not in str(e.value)


def test_a_truncated_file_is_one_clear_error(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / 'w.safetensors')
    np.savez(tmp_path / 'w.npz', a=TENSORS['a.weight'])
    for name in ('w.safetensors', 'w.npz'):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ValueError, match=rf'{name} is damaged'):
            tensor_files.read(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'w\.safetensors: no such file'):
        tensor_files.read(tmp_path / 'w.safetensors')
    with pytest.raises(ValueError, match=r"w\.h5: .*from \.safetensors and \.npz, not '\.h5'"):
        tensor_files.read(tmp_path / 'w.h5')
    with pytest.raises(ValueError, match=r"w: .*not ''"):
        tensor_files.read(tmp_path / 'w')


def conversion(path):
    """The command that the refusal of a pickle gives."""
    with pytest.raises(ValueError, match='is a pickle, which is not read here') as error:
        tensor_files.read(path)
    return shlex.split(str(error.value).partition('this converts it: ')[2])


def test_a_file_of_dlib_is_refused_with_the_tool_that_converts_it(tmp_path):
    path = tmp_path / 'dlib_face_recognition_resnet_model_v1.dat'
    with pytest.raises(ValueError, match=r"not '\.dat'; tools/convert_dlib_resnet\.py converts"):
        tensor_files.read(path)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path):
    for name in ('w.pth', 'w.PT', 'pytorch_model.bin'):
        command = conversion(tmp_path / name)  # need not even be there
        assert command[:2] == ['python', '-c']
        compile(command[2], name, 'exec')
        assert command[3] == str(tmp_path / name)
        assert command[4] == str((tmp_path / name).with_suffix('.safetensors'))


@pytest.mark.parametrize('key', ['state_dict', 'model', ''])
def test_that_command_converts_what_pytorch_saved(tmp_path, key):
    torch = pytest.importorskip('torch')
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {'a': shared, 'b': shared.T, 'c': torch.ones(2, dtype=torch.bfloat16)}
    path = tmp_path / 'my weights.pth'
    saved = {key: tensors, 'epoch': torch.tensor(3)} if key else tensors
    torch.save(saved, path)
    subprocess.run([sys.executable, *conversion(path)[1:]], check=True)
    got = tensor_files.read(path.with_suffix('.safetensors'))
    assert got.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(got[name].astype(np.float32), value.float().numpy())
    torch.save({'weights': tensors, 'epoch': 3}, path)
    result = subprocess.run(
        [sys.executable, *conversion(path)[1:]], check=False, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (1, 'no tensors there, but weights, epoch\n')
