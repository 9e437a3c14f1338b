r"""Measures what augmentation costs: whole training steps with it and without, and each part alone.

  python benchmarks/augmentation.py --json=augmentation.json
  python benchmarks/augmentation.py --image_size=128 --dtype=bfloat16 --parts=none

All take turns in one run. Of a step, `ms` is the median time, `ratio` the median over the turns of
its time over that of the step without augmentation in the same turn, and `best` the ratio of the
shortest times, which says more on a machine that has other things to do. A part costs less than
the times of a step vary by. So parts are measured without the network: `ms` is what the program
that augments a batch takes longer with that part than with none, and `%` what that is of a step.
`default` has the parts that are on by default, `everything` all of them.
"""

from typing import Any

import jax
import numpy as np
from jax_hybrid import add_model_flags, create_batch, create_configs, create_steps
from ml_collections import ConfigDict
from report import Step, Table, alternate_rounds, create_parser

from hybrid import devices
from hybrid.data import augment, mixing
from hybrid.training.train_state import AUGMENTATION, create_key, example_keys

# As strong as a recipe for photographs may have them; how strong does not change what they cost.
CAMERA: dict[str, dict[str, Any]] = {
    'resample': {'resample': 24},
    'blur': {'blur': 0.02},
    'motion_blur': {'motion_blur': 0.08},
    'sharpen': {'sharpen': 1.0},
    'white_balance': {'white_balance': 0.3},
    'contrast': {'contrast': 0.3},
    'saturation': {'saturation': 0.3},
    'hue': {'hue': 15.0},
    'gamma': {'gamma': 0.5},
    'grey': {'grey': 0.1},
    'erase': {'erase': 0.2},
    'noise': {'noise': 0.05},
    'jpeg': {'jpeg': 20},
    'mixup': {'mixup': 0.2},
    'cutmix': {'cutmix': 1.0},
}


def create_variants(config: ConfigDict) -> dict[str, ConfigDict]:
    """The configs of whole steps by name, the first one without augmentation."""
    # Faces are resized to more than the crop, as in the recipes.
    config.data.resize_size = config.data.image_size * 9 // 8 // 2 * 2
    off, everything = (config.copy_and_resolve_references() for _ in range(2))
    off.augment.enabled = False
    for keys in CAMERA.values():
        everything.augment.update(keys)
    return {'off': off, 'default': config, 'everything': everything}


def create_parts(variants: dict[str, ConfigDict]) -> dict[str, ConfigDict]:
    """The configs of parts by name, the first one without augmentation."""
    parts = dict(variants)
    none = dict.fromkeys(('rotation', 'scale', 'shift', 'flip', 'brightness'), 0.0)
    for name, keys in CAMERA.items():
        parts[name] = variants['default'].copy_and_resolve_references()
        parts[name].augment.update(none | keys)
    return parts


def create_augmentation(config: ConfigDict) -> Step:
    """Compiles the augmentation of a training step without the rest of it."""
    ranges, size = augment.create_ranges(config.augment), config.data.image_size

    def step(seed: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        keys = example_keys(create_key(seed, 0, 0, AUGMENTATION), batch['position'])
        images = augment.augment(augment.to_unit(batch['image']), keys, size, ranges)
        if ranges.mixup or ranges.cutmix:
            images = mixing.mix(images, batch, keys, ranges).images
        return {'image': augment.normalize(images, config.data.normalization)}

    program, batch = devices.compile_eval_step(step), create_batch(config)
    seed = devices.replicate(np.uint32(0))
    return lambda: jax.block_until_ready(program(seed, batch))


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=12)
    add_model_flags(parser, image_size='64,96,128')
    parser.add_argument('--parts', choices=('all', 'none'), default='all', help='each part alone')
    options = parser.parse_args()
    table = Table(['ms', 'ratio', 'best', '%'], f'augmentation, batch {options.batch_size}')
    for config in create_configs(options):
        variants = create_variants(config)
        model = f'{config.model.encoder.name} {config.data.image_size} px {config.model.dtype}'
        steps = [create_steps(one)[0] for one in variants.values()]
        seconds = 1e3 * alternate_rounds(steps, options.rounds)
        for name, times in zip(variants, seconds, strict=True):
            row = {
                'ms': float(np.median(times)),
                'ratio': float(np.median(times / seconds[0])),
                'best': float(times.min() / seconds[0].min()),
            }
            table.add({'name': f'step, {model}, {name}', **row})
        if options.parts == 'none':
            continue
        parts = create_parts(variants)
        alone = [create_augmentation(one) for one in parts.values()]
        times = 1e3 * np.median(alternate_rounds(alone, 4 * options.rounds), axis=1)
        for name, more in list(zip(parts, times - times[0], strict=True))[1:]:
            share = 100 * float(more / np.median(seconds[0]))
            table.add({'name': f'part, {model}, {name}', 'ms': float(more), '%': share})
    table.end(options.json)


if __name__ == '__main__':
    main()
