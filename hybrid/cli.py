r"""The command line: flags, the modes they start, signals, and the one line that an error becomes.

Train and evaluate on drawn faces, prepare UTKFace, train on it, evaluate again, predict:

  python launch.py
  python launch.py --mode=prepare --config=configs/utkface_resnet18_lstm.py \
      --config.data.manual_dir=DIR
  python launch.py --config=configs/utkface_resnet18_lstm.py --workdir=W \
      --config.train.batch_size=128
  python launch.py --mode=evaluate --workdir=W --split=test --checkpoint=best
  python launch.py --mode=predict --workdir=W --input=PHOTOS --detect --output=faces.csv

What a dataset leaks, and a model on another dataset than its own:

  python launch.py --mode=audit --config.data.dataset=utkface --config.data.manual_dir=DIR
  python launch.py --mode=evaluate --workdir=W --config.data.dataset=face_csv/mine \
      --config.data.manual_dir=FACES

Start from ImageNet weights, from an earlier run:

  python launch.py --config=configs/utkface_resnet18_lstm_imagenet.py --workdir=W \
      --config.model.encoder.pretrained=resnet18.safetensors
  python launch.py --config=configs/utkface_resnet18_lstm.py --workdir=V --config.init_from=W

An ensemble, finished runs combined, an ensemble taken apart:

  python launch.py --config=configs/ensemble_quickstart.py --workdir=E
  python launch.py --mode=evaluate --workdir=A,B,C
  python launch.py --mode=unstack --workdir=E --output=members
"""

import errno
import logging
import os
import pathlib
import signal
import sys
import threading
import types
import warnings

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from hybrid import flag_errors

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'
FLAGS = flags.FLAGS
# Overrides are checked against the default config as soon as the flag is defined.
try:
    config_flags.DEFINE_config_file(
        'config',
        str(CONFIGS / 'quickstart.py'),
        'Config file. --config.KEY=VALUE changes a key, also of the config that a workdir holds.',
    )
except flag_errors.FLAG_ERRORS as error:
    sys.exit(f'error: {flag_errors.explain(error, sys.argv, CONFIGS)}')
flags.DEFINE_string(
    'workdir',
    '',
    "The run's folder. In training the default is runs/<name of the config file>. evaluate, "
    'predict, stack: also several, separated by commas, whose models are combined.',
)
flags.DEFINE_enum(
    'mode',
    'train',
    ['prepare', 'train', 'evaluate', 'predict', 'audit', 'unstack', 'stack'],
    'prepare: make the dataset ready. train: train or continue, then evaluate. '
    "evaluate: evaluate a workdir's checkpoint on --split. "
    'predict: age and gender for the image files of --input. '
    "audit: what the dataset's splits share, and how their labels are spread. "
    'unstack: each member of an ensemble to a workdir of its own in --output. '
    'stack: the models of several workdirs to one ensemble, the workdir --output.',
)
flags.DEFINE_string('split', 'test', 'evaluate: which split of the dataset.')
flags.DEFINE_enum('checkpoint', 'best', ['best', 'last'], 'evaluate, predict: which checkpoint.')
flags.DEFINE_string('input', '', 'predict: an image file, or a folder that is searched for them.')
flags.DEFINE_string(
    'output',
    '',
    'predict: the .csv or .jsonl file to write. evaluate: folder for the results, by default the '
    'workdir. audit: folder for the report, by default in runs/audit. unstack, stack: the folder '
    'to make.',
)
flags.DEFINE_bool('detect', False, 'predict: find the faces of photographs; else crops are meant.')
flags.DEFINE_string('draw', '', 'predict: folder for pictures with boxes and predictions.')
flags.DEFINE_bool(
    'overwrite_config', False, 'train: go on although the workdir has another config.'
)
flags.DEFINE_string(
    'coordinator',
    '',
    'Several processes: host:port of process 0; "auto" lets JAX find out, as on TPU '
    'pods. Not needed under srun, mpirun or torchrun.',
)
flags.DEFINE_integer('num_processes', 0, 'Several processes: how many, with --coordinator.')
flags.DEFINE_integer('process_id', -1, 'Several processes: which one this is, from 0.')
flags.DEFINE_bool('debug', False, 'Show the whole traceback of an error.')


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it is said in one line."""
    if {'--help', '-help', '--helpshort', '-h', '-?'} & set(argv[1:]):
        print(f'{__doc__}\nFlags:\n{FLAGS.module_help(sys.modules[__name__])}')
        sys.exit(0)
    try:
        rest = FLAGS(argv)
        FLAGS.config.lock()  # raises here, not later, if the config file is not there
    except SystemExit:  # --helpfull, for which absl would exit with 1
        sys.exit(0)
    except flag_errors.FLAG_ERRORS as error:
        sys.exit(f'error: {flag_errors.explain(error, argv, CONFIGS)}')
    if len(rest) > 1:
        sys.exit(f'error: {rest[1]}: unexpected argument; options are written --name=value')
    return rest


def run() -> None:
    """Does what the flags say. Imports wait until here, so that --help and errors are quick."""
    from hybrid import default_config
    from hybrid.ops import kernels
    from hybrid.runs import workdir

    config = FLAGS.config
    configs = [config]
    folders = [pathlib.Path(name).expanduser() for name in FLAGS.workdir.split(',')]
    if FLAGS.mode not in ('prepare', 'train', 'audit'):
        if not FLAGS.workdir:
            raise ValueError(f'--mode={FLAGS.mode} needs --workdir, the folder of a training')
        if not all(FLAGS.workdir.split(',')):
            raise ValueError(f'--workdir={FLAGS.workdir}: a comma without a workdir beside it')
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise ValueError(f'--workdir={FLAGS.workdir} names a workdir twice')
        overrides = config_flags.get_override_values(FLAGS['config'])
        configs = [workdir.load_config(folder, default_config.get_config()) for folder in folders]
        for config in configs:
            # Of the machine that it was trained on.
            config.model.kernels = 'auto'
            config.update_from_flattened_dict(overrides)
    elif not FLAGS.workdir:
        name = pathlib.Path(config_flags.get_config_filename(FLAGS['config'])).stem
        folders = [pathlib.Path('runs') / name]
    if len(folders) > 1 and FLAGS.mode not in ('evaluate', 'predict', 'stack'):
        raise ValueError(f'--mode={FLAGS.mode} takes one --workdir, not {len(folders)}')
    config, folder = configs[0], folders[0]
    output = pathlib.Path(FLAGS.output).expanduser() if FLAGS.output else None
    for one in configs:
        kernels.settle(one, workdir.recorded_kernels(folder) if FLAGS.mode == 'train' else 'auto')

    import jax

    from hybrid import devices

    devices.keep_freed_memory()
    if config.deterministic:
        devices.require_determinism()
    devices.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    if not devices.is_main_process():
        logging.getLogger('hybrid').setLevel(logging.WARNING)
    cache = os.environ.get('JAX_COMPILATION_CACHE_DIR', '~/.cache/hybrid/compiled')
    jax.config.update('jax_compilation_cache_dir', os.path.expanduser(cache))
    # jaxlib 0.12 cannot write programs that call oneDNN: they are compiled at every start.
    warnings.filterwarnings('ignore', message='Error writing persistent compilation cache entry')
    # Each mode imports what it needs: some of it takes a second.
    if FLAGS.mode == 'prepare':
        from hybrid import datasets
        from hybrid.data import prepared

        builder = prepared.create_prepared_builder(config)
        print(f'{builder.info.full_name} is in {builder.data_dir}: {datasets.sizes(builder)}')
    elif FLAGS.mode == 'audit':
        from hybrid.modes import audit

        audit.audit(config, output)
    elif FLAGS.mode == 'evaluate':
        from hybrid.modes import evaluate

        evaluate.evaluate(configs, folders, FLAGS.split, FLAGS.checkpoint, output)
    elif FLAGS.mode == 'unstack':
        from hybrid.modes import stacking

        stacking.unstack(config, folder, FLAGS.checkpoint, output)
    elif FLAGS.mode == 'stack':
        from hybrid.modes import stacking

        stacking.stack(configs, folders, FLAGS.checkpoint, output)
    elif FLAGS.mode == 'predict':
        from hybrid.modes import predict

        predict.predict(
            configs,
            folders,
            FLAGS.checkpoint,
            FLAGS.input,
            FLAGS.output,
            detect=FLAGS.detect,
            drawings=FLAGS.draw,
        )
    else:
        from hybrid.modes import train

        try:
            train.train_and_evaluate(config, folder, FLAGS.overwrite_config)
        except train.Stopped as stopped:
            logging.getLogger('hybrid').info(stopped)


def leave(error: BaseException) -> None:
    """Ends the program with one line about an error."""
    text = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text += ': the disk is full; make room, and the same command continues'
    if isinstance(error, KeyboardInterrupt):
        text = 'interrupted; the same command begins this again, or continues a training'
    if 'jax' in sys.modules:
        from hybrid import devices

        if devices.lost_process(error):
            text = (
                f'another process of this run has gone ({text.splitlines()[0]}); start all of them '
                'again, and the run continues after its last checkpoint'
            )
    sys.stdout.flush()
    print(f'error: {text}', file=sys.stderr, flush=True)
    # An ordinary exit would wait for other processes, and let threads and exit hooks of libraries
    # print tracebacks of what has been said.
    os._exit(1)


def interrupt(number: int, frame: types.FrameType | None) -> None:
    """Makes SIGTERM do what Ctrl-C does, so that what is half done is tidied up."""
    del number, frame
    raise KeyboardInterrupt


def _main(argv: list[str]) -> None:
    """Runs, and says in one line what went wrong if it can be mended by the user."""
    del argv
    if not FLAGS.debug:
        # Libraries tell every file they write, and every thread that could not.
        absl_logging.set_verbosity(absl_logging.FATAL)
        logging.getLogger('asyncio').setLevel(logging.CRITICAL)
        threading.excepthook = lambda arguments: None
        sys.unraisablehook = lambda arguments: None
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(message)s'))
    logger = logging.getLogger('hybrid')
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    signal.signal(signal.SIGTERM, interrupt)
    try:
        run()
    except (KeyboardInterrupt, ValueError, OSError, RuntimeError) as error:
        if FLAGS.debug:
            raise
        leave(error)


def main() -> None:
    """Runs the command line of this process, and exits."""
    app.run(_main, flags_parser=parse_flags)
