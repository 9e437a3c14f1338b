r"""Asks what recurrent parts are worth over frozen features: trials of minutes, without an encoder.

  python benchmarks/frozen_sequence.py --weights=FILE --manual_dir=DIR --cache=DIR --seeds=0,1
  python benchmarks/frozen_sequence.py ... --only='layer3.*gru' --json=results/frozen_sequence.json

A whole ImageNet ResNet-50 (v1) reads the faces of UTKFace's train and validation splits at 96 px
once, as they are and mirrored; its maps after `layer3` (6 x 6 x 1024) and `layer4` (3 x 3 x 2048)
are kept in the cache as float16, 4.6 GB. On them each trial trains the project's own recurrent part
and heads. No test face is read. A row compares a trial with the CNN alone on the same maps, with
and without a hidden layer in its heads that makes the number of parameters about equal: the
differences on validation, with paired bootstrap intervals; of several seeds each face counts with
the mean of its errors. A trial that the cache has is not run again, and rows hold all that it has.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from report import Table, create_parser, environment, numbers

from hybrid import recipes
from hybrid.data import augment, input_pipeline, prepared, records
from hybrid.models import encoders, heads
from hybrid.models.network import create_model
from hybrid.scores import bootstrap, outcomes
from hybrid.training.losses import masked_mean
from hybrid.training.optimizer import create_learning_rate_fn, create_optimizer
from hybrid.training.train_state import num_params
from hybrid.weights import pretrained, tensor_files

SHAPES = {'layer3': (6, 6, 1024), 'layer4': (3, 3, 2048)}
SPLITS = ('train', 'validation')
SCORES = ('age/mae', 'gender/accuracy')
CHOICES = ('layer4', 'layer3', 'layer3,layer4')
STAGES = 'sequence.stages'
# What differs from the CNN + LSTM, one way, last state, of the default config.
POOLED: dict[str, Any] = {'recurrent.cell': 'none'}
BOTH = {'recurrent.bidirectional': True}
GRU = BOTH | {'recurrent.cell': 'gru'}
MEAN, ATTENTION, MAX = ({'recurrent.reduce': name} for name in ('mean', 'attention', 'max'))
SERPENTINE = {'sequence.order': 'serpentine'}
LARGE = {'recurrent.features': 512}
WIDE = 'pooled, hidden layer of 512'
# Changes to all of config.model, by what they are called, for each choice of stages.
TRIALS = {
    'pooled': POOLED,
    WIDE: POOLED | {'head.hidden': 512},
    'attention, no recurrence': POOLED | ATTENTION,
    'max, no recurrence': POOLED | MAX,
    'a layer at each position, no recurrence': {'recurrent.cell': 'dense'},
    'a layer of 1024 at each position, no recurrence': {
        'recurrent.cell': 'dense',
        'recurrent.features': 1024,
    },
    'LSTM, last': {},
    'LSTM, mean': MEAN,
    'LSTM, last, serpentine': SERPENTINE,
    'LSTM both ways, last': BOTH,
    'LSTM both ways, mean': BOTH | MEAN,
    'LSTM both ways, max': BOTH | MAX,
    'LSTM both ways, attention': BOTH | ATTENTION,
    'LSTM both ways, mean, 512': BOTH | MEAN | LARGE,
    'LSTM both ways, mean, dropout 0.5': BOTH | MEAN | {'head.dropout': 0.5},
    'GRU both ways, last': GRU,
    'GRU both ways, mean': GRU | MEAN,
    'GRU both ways, attention': GRU | ATTENTION,
}
# With what the trials of the same stages are compared, and the columns of age that show it.
BASELINES = {'less_pooled': 'pooled', 'less_hidden': WIDE}
COLUMNS = [f'{kind}{end}' for kind in BASELINES for end in ('', '_ci95_low', '_ci95_high')]


class Cached(nn.Module):
    """An encoder whose images are feature maps already."""

    read: tuple[str, ...] = ()

    def __call__(self, images: tuple[jax.Array, ...], *, train: bool) -> tuple[jax.Array, ...]:
        """Gives the maps as they are."""
        del train
        return images


def create_config(options: argparse.Namespace) -> ConfigDict:
    """The recipe of the runs whose recurrent part made no difference, with the whole ResNet-50."""
    config = recipes.get_config('utkface_resnet18_lstm_imagenet')
    config.data.update(data_dir=options.data_dir, manual_dir=options.manual_dir)
    config.model.encoder.update(name='resnet50', bottleneck_stride='1x1')
    config.model.recurrent.update(bidirectional=False, reduce='last')
    config.model.head.age = 'regression'  # As those runs had it.
    config.optimizer.learning_rate = options.learning_rate
    config.train.batch_size = 128
    return config


def extract(config: ConfigDict, weights: str, cache: pathlib.Path, split: str) -> None:
    """Writes the maps of a split into the cache, [2, N, h, w, C], unless they are there."""
    paths = {stage: cache / f'{split}_{stage}.npy' for stage in SHAPES}
    if all(path.exists() for path in paths.values()):
        return
    model = config.model.copy_and_resolve_references()
    model.sequence.stages = ','.join(SHAPES)
    module, size = create_model(model).encoder, config.data.image_size
    images = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), variables)
    tensors, encoder = tensor_files.read(pathlib.Path(weights)), encoders.get('resnet50')
    variables, _ = pretrained.convert(tensors, variables, encoder)

    @jax.jit
    def compute(variables: Any, images: jax.Array) -> list[jax.Array]:
        images = augment.center_crop(augment.to_unit(images), size)
        images = augment.normalize(images, config.data.normalization)
        views = [module.apply(variables, x, train=False) for x in (images, images[:, :, ::-1])]
        return [jnp.stack(maps).astype(jnp.float16) for maps in zip(*views, strict=True)]

    builder = prepared.create_prepared_builder(config)
    count = builder.info.splits[split].num_examples
    parts = {stage: path.with_suffix('.part') for stage, path in paths.items()}
    files = [
        np.lib.format.open_memmap(parts[stage], 'w+', np.float16, (2, count, *shape))
        for stage, shape in SHAPES.items()
    ]
    resize_size = config.data.resize_size
    for batch in input_pipeline.evaluation_batches(
        builder, split, batch_size=64, resize_size=resize_size
    ):
        real = batch['mask'] > 0
        for file, maps in zip(files, compute(variables, batch['image']), strict=True):
            file[:, batch['index'][real]] = np.asarray(maps)[:, real]
    for file, stage in zip(files, SHAPES, strict=True):
        file.flush()
        parts[stage].rename(paths[stage])


def train(
    config: ConfigDict, maps: Mapping[str, Any], labels: Mapping[str, Any], seed: int, epochs: int
) -> dict[str, Any]:
    """Trains a recurrent part and heads on the maps, and predicts the faces of validation.

    Args:
      config: Its model reads stages of the encoder `cached`.
      maps: By split, of each stage that is read [2, N, h, w, C].
      labels: By split, what `records.read_columns` gives.
      seed: Of initialisation, order, mirrored faces and dropout.
      epochs: How often each training face is seen.

    Returns:
      `predicted_age` and `female_probability`, [N], and the number of parameters.
    """
    model, of_heads = create_model(config.model), heads.create_heads(config.model.head, config.loss)
    size, count = config.train.batch_size, len(labels['train']['id'])
    steps = round(epochs * (count // size))
    tx = create_optimizer(config.optimizer, create_learning_rate_fn(config.optimizer, steps))
    names = ('age', 'age_min', 'age_max', 'gender')

    def float32(maps: Sequence[Any]) -> tuple[jax.Array, ...]:
        return tuple(jnp.asarray(one, jnp.float32) for one in maps)

    def apply(params: Any, maps: list[np.ndarray], **keywords: Any) -> Any:
        return model.apply({'params': params}, float32(maps), **keywords)

    @jax.jit
    def step(params: Any, opt_state: Any, key: jax.Array, maps: Any, batch: Any) -> Any:
        def loss_fn(params: Any) -> jax.Array:
            keys = jax.random.split(key, size)
            outputs = apply(params, maps, train=True, dropout_keys=keys)
            losses = {name: head.loss(outputs[name], batch) for name, head in of_heads.items()}
            return sum(config.loss[f'{n}_weight'] * masked_mean(*losses[n]) for n in losses)

        updates, opt_state = tx.update(jax.grad(loss_fn)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    @jax.jit
    def predict(params: Any, views: list[list[np.ndarray]]) -> dict[str, jax.Array]:
        of_views = [apply(params, maps, train=False) for maps in views]
        outputs = {n: head.average([o[n] for o in of_views]) for n, head in of_heads.items()}
        return heads.predict(of_heads, outputs)

    key, rng = jax.random.key(seed), np.random.default_rng(seed)
    first = float32([one[0, :1] for one in maps['train']])
    params = jax.jit(lambda: model.init(key, first, train=False))()['params']
    opt_state = tx.init(params)
    order = np.concatenate([rng.permutation(count) for _ in range(-(-steps * size // count))])
    for number in range(steps):
        index = order[number * size : (number + 1) * size]
        view = rng.integers(0, 2, size)
        batch = {name: labels['train'][name][index] for name in names}
        mapped = [one[view, index] for one in maps['train']]
        params, opt_state = step(params, opt_state, jax.random.fold_in(key, number), mapped, batch)
    columns = []
    for start in range(0, len(labels['validation']['id']), 256):
        part = [one[:, start : start + 256] for one in maps['validation']]
        columns.append(predict(params, [[one[view] for one in part] for view in (0, 1)]))
    joined = {n: np.concatenate([one[n] for one in columns]) for n in columns[0]}
    return joined | {'num_params': num_params(params)}


def difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores less others, with the ends of paired intervals, of the values of each face."""
    scores: dict[str, Any] = {}
    for name in one:
        found = bootstrap.paired_bootstrap(one[name], other[name])
        ends = (name, f'{name}_ci95_low', f'{name}_ci95_high')
        scores |= dict(zip(ends, found, strict=True))
    return scores


def create_rows(
    cache: pathlib.Path, labels: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each trial that the cache has, its seeds taken together."""
    rows, files, values = [], {}, {}
    for stages, name in itertools.product(CHOICES, TRIALS):
        found = {}
        for path in cache.glob(f'trial {stages}, {name}, seed *, {about}.npz'):
            with np.load(path) as file:
                found[int(re.findall(r', seed (\d+), ', path.name)[-1])] = dict(file)
        files[stages, name] = dict(sorted(found.items()))
    for key, seeds in files.items():
        for seed, file in seeds.items():
            right = outcomes.is_right(file['female_probability'], labels['gender'])
            values[*key, seed] = {
                'age/mae': np.abs(file['predicted_age'] - labels['age']),
                'gender/accuracy': right.astype(np.float64),
            }

    def mean(key: tuple[str, str], seeds: Iterable[int]) -> dict[str, np.ndarray]:
        return {
            score: np.mean([values[*key, seed][score] for seed in seeds], axis=0)
            for score in SCORES
        }

    for (stages, name), seeds in files.items():
        if not seeds:
            continue
        one = next(iter(seeds.values()))
        row = {
            'name': name,
            'model': {STAGES: stages} | TRIALS[name],
            'seeds': [*seeds],
            **about,
            'commit': ', '.join(sorted({str(file['commit']) for file in seeds.values()})),
            'num_params': int(one['num_params']),
            'seconds': float(np.mean([file['seconds'] for file in seeds.values()])),
            'scores': {k: float(x.mean()) for k, x in mean((stages, name), seeds).items()},
        }
        for kind, other in BASELINES.items():
            both = sorted(seeds.keys() & files[stages, other].keys())
            if both and other != name:
                row[kind] = {'seeds': both} | difference(
                    mean((stages, name), both), mean((stages, other), both)
                )
        rows.append(row)
    return rows


def printed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a row by the columns of the table."""
    cells = {'MAE': row['scores']['age/mae'], 'gender': 100 * row['scores']['gender/accuracy']}
    for kind in BASELINES.keys() & row.keys():
        for end in ('', '_ci95_low', '_ci95_high'):
            cells[f'{kind}{end}'] = row[kind][f'age/mae{end}']
    return cells | {'name': f'{row["model"][STAGES]}: {row["name"]} {row["seeds"]}'}


def main() -> None:
    """Runs the trials that are missing, prints all, and keeps them."""
    parser = create_parser(__doc__)
    parser.add_argument('--weights', required=True, help="of torchvision's names, whole, v1")
    parser.add_argument('--manual_dir', required=True, help='the folder of UTKFace')
    parser.add_argument('--data_dir', default='', help='the folder of prepared datasets')
    parser.add_argument('--cache', required=True, type=pathlib.Path, help='where maps are kept')
    parser.add_argument('--only', default='', help='a pattern in STAGES, NAME of trials to run')
    parser.add_argument('--seeds', default='0', type=numbers, help='of each trial')
    parser.add_argument('--epochs', default=5, type=int)
    parser.add_argument('--learning_rate', default=1e-3, type=float, help='at its peak')
    options = parser.parse_args()
    # Maps and trials of other weights lie beside these.
    digest = tensor_files.sha256(pathlib.Path(options.weights))
    config, cache = create_config(options), options.cache / digest[:8]
    cache.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        extract(config, options.weights, cache, split)
    builder = prepared.create_prepared_builder(config)
    labels = {split: records.read_columns(builder, split) for split in SPLITS}
    config.model.encoder.name = 'cached'
    of_resnet = encoders.get('resnet50')
    created = dataclasses.replace(of_resnet, create=lambda settings, **_: Cached())
    encoders.register('cached', created)
    about = {'epochs': options.epochs, 'learning_rate': options.learning_rate}
    for stages, (name, changes), seed in itertools.product(CHOICES, TRIALS.items(), options.seeds):
        path = cache / f'trial {stages}, {name}, seed {seed}, {about}.npz'
        if path.exists() or not re.search(options.only, f'{stages}, {name}'):
            continue
        trial = config.copy_and_resolve_references()
        trial.model.update_from_flattened_dict({STAGES: stages} | changes)
        maps = {
            split: [np.load(cache / f'{split}_{stage}.npy', 'r') for stage in stages.split(',')]
            for split in SPLITS
        }
        start = time.monotonic()
        found = train(trial, maps, labels, seed, options.epochs)
        about_it = {'seconds': time.monotonic() - start, 'commit': environment()['commit']}
        np.savez(path, **about_it, **found)
        print(path.stem, flush=True)
    rows = create_rows(cache, labels['validation'], about)
    table = Table(['MAE', 'gender', *COLUMNS], 'trial, seeds')
    for row in rows:
        table.add(printed(row))
    table.end()
    if options.json:
        path = pathlib.Path(options.json)
        kept = json.loads(path.read_text())['rows'] if path.exists() else []
        # Trainings of another length or rate stay.
        kept = [row for row in kept if {key: row[key] for key in about} != about]
        record = {'environment': environment(), 'rows': [*rows, *kept]}
        path.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
    main()
