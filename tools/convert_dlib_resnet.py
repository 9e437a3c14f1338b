r"""Makes a .safetensors file for the encoder dlib_resnet of dlib's face recognition network.

  python -m pip install face_recognition_models==0.3.0
  python -m tools.convert_dlib_resnet dlib_resnet.safetensors --manual_dir=DIR

The network (https://github.com/davisking/dlib-models, public domain) was trained with batch
normalisation, but its file has only what each one amounts to: a factor and an offset. So the means
and variances that belong to them are measured here, on 1,024 training faces of UTKFace's default
split, which DIR holds, and factors and offsets are changed so that the network computes the same.
dlib's normalisation of images is folded into the first convolution: the encoder takes images that
are normalised as for ImageNet. Train with:

  --config.model.encoder.name=dlib_resnet --config.data.normalization=imagenet \
  --config.data.resize_size=156 --config.data.image_size=150 \
  --config.model.encoder.pretrained=dlib_resnet.safetensors

or with the recipe utkface_dlib_resnet_lstm, which sets all but the last one. A recipe that sets
`model.encoder.width` for a ResNet, as quickstart does, needs `--config.model.encoder.width=64`,
too. The statistics depend on the machine in their last digits, so that the hash of the file does.
"""

import argparse
import functools
import importlib.util
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from hybrid import files, recipes
from hybrid.data import augment, input_pipeline, prepared
from hybrid.models import dlib_resnet, encoders
from hybrid.weights import pretrained

PACKAGE, FILE = 'face_recognition_models', 'dlib_face_recognition_resnet_model_v1.dat'
FACES, BATCH = 1024, 64
# What dlib subtracts from the colours of 0 to 255 before it divides them by 256.
_MEAN, _RANGE = (122.782, 117.001, 104.298), 256.0
_EPSILON = 1e-5


class Layer(NamedTuple):
    """A convolution of the file and the affine map after it, float32.

    Attributes:
      kernel: [N, C, kh, kw].
      offset: [N], added to what the convolution gives.
      factor: [N], of the affine map.
      bias: [N], of the affine map.
    """

    kernel: np.ndarray
    offset: np.ndarray
    factor: np.ndarray
    bias: np.ndarray


def find() -> pathlib.Path:
    """The file of the installed package, which is not imported.

    Raises:
      FileNotFoundError: when it is not there.
    """
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        path = pathlib.Path(folder) / 'models' / FILE
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'there is no {FILE}: install it (python -m pip install {PACKAGE}==0.3.0), or name it by '
        '--source'
    )


def _variables() -> dict[str, Any]:
    """The shapes of the encoder's variables."""
    images = jax.ShapeDtypeStruct((1, dlib_resnet.SIZE, dlib_resnet.SIZE, 3), np.float32)
    initialize = functools.partial(dlib_resnet.DlibResNet().init, train=False)
    return jax.eval_shape(initialize, jax.random.key(0), images)


def _kernels() -> dict[str, tuple[int, ...]]:
    """The shapes [N, C, kh, kw] of the kernels, by the names of their convolutions.

    Names in alphabetical order, as JAX has them, are in the order of dlib's file, too.
    """
    leaves = traverse_util.flatten_dict(_variables()['params'], sep='.')
    found = {n: leaf.shape for n, leaf in sorted(leaves.items()) if n.endswith('.kernel')}
    return {n.removesuffix('.kernel'): (*shape[:1:-1], *shape[:2]) for n, shape in found.items()}


class _Reader:
    """Reads dlib's serialised objects, one after the other.

    An integer is a byte, whose lower half says how many bytes of the number follow (the lowest
    first) and whose highest bit is the sign. A text is its length and its bytes, a tensor its
    version (2), four sizes, and float32 numbers.
    """

    def __init__(self, data: bytes):
        self._data, self._place = data, 0

    def find(self, text: bytes) -> None:
        """Goes behind the next occurrence of a text."""
        self._place = self._data.index(bytes([1, len(text)]) + text, self._place) + len(text) + 2

    def integer(self) -> int:
        size = self._data[self._place] & 15
        negative = self._data[self._place] & 128
        value = int.from_bytes(self._take(1 + size)[1:], 'little')
        return -value if negative else value

    def tensor(self) -> np.ndarray:
        if (version := self.integer()) != 2:
            raise ValueError(f'a tensor of version {version}, not 2')
        shape = [self.integer() for _ in range(4)]
        return np.frombuffer(self._take(4 * int(np.prod(shape))), '<f4').reshape(shape)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._place : self._place + size]
        if len(taken) < size:
            raise ValueError('it ends too early')
        self._place += size
        return taken


def read(path: pathlib.Path) -> tuple[dict[str, Layer], np.ndarray]:
    """Reads dlib's file.

    Returns:
      The layers by the names of their convolutions in the encoder, such as 'layer1_0.conv1', and
      the last layer, float32 [256, 128], with which dlib makes a descriptor of the mean of the
      feature map.

    Raises:
      ValueError: when it is another file.
    """
    reader = _Reader(path.read_bytes())
    layers = {}
    try:
        for name, shape in _kernels().items():
            reader.find(b'con_4')
            parameters = reader.tensor().ravel()
            features, height, width = (reader.integer() for _ in range(3))
            reader.find(b'affine_')
            factor, bias = reader.tensor().reshape(2, -1)
            kernel = parameters[:-features].reshape(features, -1, height, width)
            layers[name] = Layer(kernel, parameters[-features:], factor, bias)
            if kernel.shape != shape or factor.shape != kernel.shape[:1]:
                raise ValueError(f'{name} is {kernel.shape}, not {shape}')
            if not all(np.isfinite(values).all() for values in layers[name]):
                raise ValueError(f'{name} holds numbers that are not finite')
        reader.find(b'fc_2')
        reader.integer(), reader.integer()  # what it gives and takes
        last = reader.tensor()
        return layers, last.reshape(last.shape[:2])
    except (ValueError, IndexError) as error:
        raise ValueError(f'{path} is not {FILE} ({error})') from error


def fold(layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """Gives each layer a BatchNorm that does the same with the mean 0 and the variance 1.

    Returns:
      Tensors, float32, by the names that the encoder reads.
    """
    tensors = {}
    for name, (kernel, offset, factor, bias) in layers.items():
        if name == 'conv1':
            # In float64, because the means of the colours cancel.
            mean, deviation = (
                255 * np.array(values) for values in (augment.IMAGENET_MEAN, augment.IMAGENET_STD)
            )
            shift = (mean - _MEAN) / _RANGE
            offset = offset + np.einsum('nchw,c->n', kernel.astype(np.float64), shift)
            kernel = kernel * (deviation / _RANGE)[:, None, None]
        norm = name.replace('conv', 'bn').replace('_', '.')
        tensors[f'{name.replace("_", ".")}.weight'] = kernel
        tensors |= {
            f'{norm}.weight': factor,
            f'{norm}.bias': bias + factor * offset,
            f'{norm}.running_mean': np.zeros_like(factor),
            f'{norm}.running_var': np.full_like(factor, 1 - _EPSILON),
        }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in tensors.items()}


def _is_convolution(module: nn.Module, method: str) -> bool:
    return 'conv' in (module.name or '') and method == '__call__'


def measure(tensors: Mapping[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """Gives each BatchNorm the statistics of images, and computes the same with them.

    Args:
      tensors: From `fold`.
      images: uint8 [N, 150, 150, 3] of faces, RGB.

    Returns:
      The tensors with other weight, bias, running_mean and running_var.
    """
    module = dlib_resnet.DlibResNet(kernels='xla')
    variables, _ = pretrained.convert(tensors, _variables(), encoders.get('dlib_resnet'))

    @jax.jit
    def moments(batch):
        batch = augment.normalize(augment.to_unit(batch), 'imagenet')
        _, state = module.apply(
            variables,
            batch,
            train=False,
            capture_intermediates=_is_convolution,
            mutable=['intermediates'],
        )
        found = traverse_util.flatten_dict(state['intermediates'], sep='/')
        return {
            name.removesuffix('/__call__'): (value[0].mean((0, 1, 2)), value[0].var((0, 1, 2)))
            for name, value in found.items()
        }

    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    weights = np.array([len(batch) for batch in batches]) / len(images)
    found = [jax.device_get(moments(batch)) for batch in batches]
    result = dict(tensors)
    for name in found[0]:
        means, variances = (
            np.array([one[name][number] for one in found], np.float64) for number in (0, 1)
        )
        mean = weights @ means
        variance = weights @ (variances + (means - mean) ** 2)
        norm = name.replace('conv', 'bn').replace('_', '.').replace('/', '.')
        factor, bias = tensors[f'{norm}.weight'], tensors[f'{norm}.bias']
        changed = {
            'weight': factor * np.sqrt(variance + _EPSILON),
            'bias': bias + factor * mean,
            'running_mean': mean,
            'running_var': variance,
        }
        result |= {f'{norm}.{leaf}': values.astype(np.float32) for leaf, values in changed.items()}
    return result


def read_faces(data_dir: str, manual_dir: str) -> np.ndarray:
    """Training faces of UTKFace's default split, from all over it: uint8 [1024, 150, 150, 3]."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    with config.unlocked():
        config.data.update(data_dir=data_dir, manual_dir=manual_dir)
    builder = prepared.create_prepared_builder(config)
    examples = input_pipeline.Examples(builder, 'train', dlib_resnet.SIZE)
    places = np.linspace(0, len(examples) - 1, FACES).astype(int)
    return np.asarray(examples.load(places)['image'])


def main() -> None:
    """Converts."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('target', type=pathlib.Path, help='the .safetensors file to write')
    parser.add_argument('--source', type=pathlib.Path, help=f"{FILE}; the package's if left out")
    parser.add_argument('--data_dir', default='~/tensorflow_datasets', help='prepared datasets')
    parser.add_argument('--manual_dir', default='', help='where UTKFace was downloaded to')
    options = parser.parse_args()
    try:
        if options.target.suffix != '.safetensors':
            raise ValueError(f'{options.target}: its name must end in .safetensors')
        files.check_folder(options.target.absolute().parent)
        source = options.source or find()
        layers, _ = read(source)
        tensors = measure(fold(layers), read_faces(options.data_dir, options.manual_dir))
        files.replace(options.target, safetensors.numpy.save(tensors))
    except (OSError, ValueError) as error:
        # The errors of a dataset name a key of a config, which is a flag here.
        sys.exit(f'error: {error}'.replace('--config.data.manual_dir', '--manual_dir'))
    print(f'{options.target}: {len(tensors)} tensors of {source.name}')


if __name__ == '__main__':
    main()
