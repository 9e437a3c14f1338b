"""Command line: flags and nothing else.

Train and evaluate on drawn faces, prepare UTKFace, train on it, evaluate again:

  python launch.py
  python launch.py --mode=prepare --config=configs/utkface_resnet18_lstm.py \\
      --config.data.manual_dir=DIR
  python launch.py --config=configs/utkface_resnet18_lstm.py --workdir=W --config.train.batch_size=128
  python launch.py --mode=evaluate --workdir=W --split=test --checkpoint=best
"""

import difflib
import logging
import os
import pathlib
import re
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parent
FLAGS = flags.FLAGS


def nearest_key(message: str, argv: list[str]) -> str:
    """One line for a misspelt or mistyped --config.KEY, naming the nearest key."""
    from configs import default
    from hybrid.workdir import flatten

    keys = list(flatten(default.get_config().to_dict()))
    for argument in argv[1:]:
        match = re.fullmatch(r'--?config\.([\w.]+)(?:=(.*))?', argument)
        if match and match[1] not in keys and not any(k.startswith(match[1] + '.') for k in keys):
            near = difflib.get_close_matches(match[1], keys, n=1, cutoff=0.0)[0]
            return f'{argument}: no such key; the nearest is --config.{near}'
    return ' '.join(message.split())


# Overrides are checked against the default config as soon as the flag is defined.
try:
    config_flags.DEFINE_config_file(
        'config',
        str(ROOT / 'configs' / 'quickstart.py'),
        'Config file. --config.KEY=VALUE changes a key, also of the config that a workdir holds.',
    )
except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:
    sys.exit(f'error: {nearest_key(str(error), sys.argv)}')
flags.DEFINE_string(
    'workdir', '', "The run's folder. In training the default is runs/<name of the config file>."
)
flags.DEFINE_enum(
    'mode',
    'train',
    ['prepare', 'train', 'evaluate'],
    'prepare: make the dataset ready. train: train or continue, then evaluate. '
    "evaluate: evaluate a workdir's checkpoint on --split.",
)
flags.DEFINE_string('split', 'test', 'evaluate: which split of the dataset.')
flags.DEFINE_enum('checkpoint', 'best', ['best', 'last'], 'evaluate: which checkpoint.')
flags.DEFINE_bool(
    'overwrite_config', False, 'train: go on although the workdir has another config.'
)
flags.DEFINE_bool('debug', False, 'Show the whole traceback of an error.')


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it is said in one line."""
    try:
        rest = FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f'error: {nearest_key(str(error), argv)}')
    if len(rest) > 1:
        sys.exit(f'error: {rest[1]}: unexpected argument; options are written --name=value')
    return rest


def run() -> None:
    """Does what the flags say. Imports wait until here, so that --help is quick."""
    import jax

    from hybrid import datasets, evaluate, train, workdir

    cache = os.environ.get('JAX_COMPILATION_CACHE_DIR', '~/.cache/hybrid/compiled')
    jax.config.update('jax_compilation_cache_dir', os.path.expanduser(cache))
    folder = pathlib.Path(FLAGS.workdir).expanduser()
    if FLAGS.mode == 'evaluate':
        if not FLAGS.workdir:
            raise ValueError('--mode=evaluate needs --workdir, the folder of a training')
        config = workdir.load_config(folder)
        config.update_from_flattened_dict(config_flags.get_override_values(FLAGS['config']))
        evaluate.evaluate(config, folder, FLAGS.split, FLAGS.checkpoint)
        return
    config = FLAGS.config
    if FLAGS.mode == 'prepare':
        datasets.prepare(evaluate.create_builder(config), config.data.manual_dir)
        return
    if not FLAGS.workdir:
        name = pathlib.Path(config_flags.get_config_filename(FLAGS['config'])).stem
        folder = pathlib.Path('runs') / name
    train.train_and_evaluate(config, folder, FLAGS.overwrite_config)


def main(argv: list[str]) -> None:
    """Runs, and says in one line what went wrong if it can be mended by the user."""
    del argv
    if not FLAGS.debug:
        absl_logging.set_verbosity(absl_logging.ERROR)  # Libraries tell every file they write.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(message)s'))
    logger = logging.getLogger('hybrid')
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        run()
    except (ValueError, OSError, RuntimeError) as error:
        if FLAGS.debug:
            raise
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags)
