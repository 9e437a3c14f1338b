"""Files on the Hugging Face hub, by huggingface_hub with its own cache and token rules.

`hf://OWNER/NAME[@REVISION][/FILE]`, as that library writes it; without a file `model.safetensors`.
"""

import logging
import pathlib
import re
from urllib.parse import unquote

from hybrid.weights import tensor_files

_LOG = logging.getLogger(__name__)

SCHEME = 'hf://'
_DEFAULT_FILE = 'model.safetensors'
_ADDRESS = re.compile(r'hf://([\w.-]+/[\w.-]+)(?:@(refs/\w+/\w+|[^/@]+))?(?:/(.+))?')


def parse(source: str) -> tuple[str, str, str | None]:
    """Splits an address into repository, file and revision.

    Raises:
      ValueError: for another form of address, or a file of a kind that is not read.
    """
    match = _ADDRESS.fullmatch(source)
    if not match:
        raise ValueError(
            f'{source} is neither a path nor of the form hf://OWNER/NAME[@REVISION][/FILE]'
        )
    repository, revision, file = match[1], match[2], match[3] or _DEFAULT_FILE
    tensor_files.check_suffix(pathlib.Path(file))
    return repository, file, unquote(revision) if revision else None


def fetch(source: str) -> pathlib.Path:
    """Downloads a file unless it is in the cache, and timm's description of it if there is one.

    Raises:
      ValueError: when huggingface_hub is not installed, or the address is wrong.
      OSError: when it is neither in the cache nor to be had.
    """
    repository, file, revision = parse(source)
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise ValueError(
            f"{source} needs huggingface_hub: pip install -e '.[hub]'; or fetch the file in "
            'another way, and name its path'
        ) from None
    try:
        path = huggingface_hub.hf_hub_download(repository, file, revision=revision)
    except errors.LocalEntryNotFoundError:
        option = f' --revision {revision}' if revision else ''
        folder = pathlib.Path(constants.HF_HUB_CACHE) / f'models--{repository.replace("/", "--")}'
        raise OSError(
            f'{source} is not in the cache, and the hub cannot be reached. Where it can, '
            f'`hf download {repository} {file}{option}` fetches it; then bring the folder '
            f'{folder.name} of the cache there to {folder}, or name the path of the file alone'
        ) from None
    except Exception as error:  # also those of httpx and of xet, which are no OSError
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise OSError(f'{source}: {" ".join(lines)[:600] or type(error).__name__}') from None
    try:
        huggingface_hub.hf_hub_download(repository, 'config.json', revision=revision)
    except Exception:
        _LOG.info('%s: no config.json that says of which network it is', source)
    return pathlib.Path(path)
