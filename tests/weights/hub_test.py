"""The hub without a network: a cache laid out as huggingface_hub's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from hybrid.weights import hub

ROOT = Path(__file__).resolve().parents[2]
COMMIT = '0123456789abcdef0123456789abcdef01234567'
PROGRAM = """
import sys
from hybrid.weights import hub
try:
    print(hub.fetch(sys.argv[1]))
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def cache(tmp_path):
    """HF_HOME with models/owner/net: a commit that `main` means, two files of it."""
    folder = tmp_path / 'home' / 'hub' / 'models--owner--net'
    snapshot = folder / 'snapshots' / COMMIT
    for path in (snapshot / 'other', folder / 'refs', folder / 'blobs'):
        path.mkdir(parents=True)
    (folder / 'refs' / 'main').write_text(COMMIT)
    tensors: dict[str, Any] = {'conv1.weight': np.ones((4, 3, 7, 7), np.float32)}
    safetensors.numpy.save_file(tensors, folder / 'blobs' / 'abc')
    (snapshot / 'model.safetensors').symlink_to('../../blobs/abc')
    np.savez(snapshot / 'other' / 'w.npz', **tensors)
    (snapshot / 'config.json').write_text(json.dumps({'architecture': 'resnet18'}))
    return tmp_path / 'home'


def fetch(source, home):
    """What fetch says in a process of its own: the library reads the environment once."""
    pytest.importorskip('huggingface_hub')
    variables = {**os.environ, 'HF_HOME': str(home), 'HF_HUB_OFFLINE': '1'}
    variables = {k: v for k, v in variables.items() if k != 'HF_HUB_CACHE'}
    result = subprocess.run(
        [sys.executable, '-W', 'error', '-c', PROGRAM, source],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, '')
    return result.stdout.strip()


def test_files_in_the_cache_are_found_without_a_network(cache):
    snapshot = cache / 'hub' / 'models--owner--net' / 'snapshots' / COMMIT
    assert fetch('hf://owner/net', cache) == str(snapshot / 'model.safetensors')
    assert fetch(f'hf://owner/net@{COMMIT}/other/w.npz', cache) == str(snapshot / 'other/w.npz')


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(cache):
    said = fetch('hf://timm/resnet18.a1_in1k', cache)
    assert said.startswith('OSError hf://timm/resnet18.a1_in1k is not in the cache')
    assert '`hf download timm/resnet18.a1_in1k model.safetensors`' in said
    assert f'to {cache}/hub/models--timm--resnet18.a1_in1k' in said
    assert '\n' not in said
    said = fetch('hf://owner/net@v2/w.npz', cache)
    assert '`hf download owner/net w.npz --revision v2`' in said


def test_addresses():
    assert hub.parse('hf://timm/resnet18.a1_in1k') == (
        'timm/resnet18.a1_in1k',
        'model.safetensors',
        None,
    )
    assert hub.parse('hf://o/n@refs%2Fpr%2F1/a/b.npz') == ('o/n', 'a/b.npz', 'refs/pr/1')
    assert hub.parse('hf://o/n@refs/pr/1/b.npz') == ('o/n', 'b.npz', 'refs/pr/1')
    for text in ('hf://owner', 'hf:///net', 'hf://owner/net@/w.npz', 'https://x/y'):
        with pytest.raises(ValueError, match='is neither a path nor of the form hf://OWNER/NAME'):
            hub.parse(text)
    with pytest.raises(ValueError, match=r'pytorch_model\.bin is a pickle'):
        hub.parse('hf://owner/net/pytorch_model.bin')


def test_what_goes_wrong_on_the_way_is_one_line(monkeypatch):
    huggingface_hub = pytest.importorskip('huggingface_hub')

    def fail(*args, **kwargs):
        raise RuntimeError('proxy\n\nsaid 403')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
    with pytest.raises(OSError, match=r'hf://owner/net: proxy said 403'):
        hub.fetch('hf://owner/net')


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub: pip install -e '\.\[hub\]'"):
        hub.fetch('hf://owner/net')
