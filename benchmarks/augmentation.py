r"""Measures what augmentation costs: the training step with it, over the step without.

  python benchmarks/augmentation.py --json=augmentation.json
  python benchmarks/augmentation.py --image_size=64,128 --parts=none

The steps take turns in one run. `ratio` is the median over the turns of a step's time over that of
the step without any augmentation in the same turn, `ms` the median time, and `more` what the ratio
comes to in ms. `everything` has all parts on, `default` those of the default config.
"""

from typing import Any

import numpy as np
from jax_hybrid import add_model_flags, create_configs, create_steps
from ml_collections import ConfigDict
from report import Table, alternate_rounds, create_parser

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
GEOMETRY = ('rotation', 'scale', 'shift', 'flip', 'brightness')


def create_variants(config: ConfigDict, parts: bool) -> dict[str, ConfigDict]:
    """The configs to compare by name, the first one without augmentation."""
    # Faces are resized to more than the crop, as in the recipes.
    config.data.resize_size = config.data.image_size * 9 // 8 // 2 * 2
    off, everything = (config.copy_and_resolve_references() for _ in range(2))
    off.augment.enabled = False
    variants = {'off': off, 'default': config}
    for name, keys in CAMERA.items():
        everything.augment.update(keys)
        alone = config.copy_and_resolve_references()
        alone.augment.update(dict.fromkeys(GEOMETRY, 0.0) | keys)
        if parts:
            variants[name] = alone
    return variants | {'everything': everything}


def main() -> None:
    """Measures and prints."""
    parser = create_parser(__doc__, rounds=10)
    add_model_flags(parser, image_size='96')
    parser.add_argument('--parts', choices=('all', 'none'), default='all', help='each part alone')
    options = parser.parse_args()
    table = Table(['ms', 'ratio', 'more'], f'training step, batch {options.batch_size}')
    for config in create_configs(options):
        variants = create_variants(config, options.parts == 'all')
        seconds = alternate_rounds(
            [create_steps(one)[0] for one in variants.values()], options.rounds
        )
        model = f'{config.model.encoder.name} {config.data.image_size} px {config.model.dtype}'
        for name, times in zip(variants, seconds, strict=True):
            ratio, usual = float(np.median(times / seconds[0])), float(np.median(seconds[0]))
            row = {'ms': 1e3 * float(np.median(times)), 'ratio': ratio}
            table.add({'name': f'{model}, {name}', **row, 'more': 1e3 * usual * (ratio - 1)})
    table.end(options.json)


if __name__ == '__main__':
    main()
