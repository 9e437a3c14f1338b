"""The command line: it starts the mode that is asked for, and ends with one line about an error.

`hybrid/options.py` describes and parses the options.
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

from absl import app
from absl import logging as absl_logging

from hybrid import options
from hybrid.options import FLAGS


def run(changes: list[str]) -> None:
    """Does what the flags say. Each mode is imported here, so that --help and errors are quick."""
    configs, folders = options.load_configs(changes)
    config, folder = configs[0], folders[0]
    output = pathlib.Path(FLAGS.output).expanduser() if FLAGS.output else None

    from hybrid.ops import kernels
    from hybrid.runs import workdir

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


def _main(changes: list[str]) -> None:
    """Runs, and says in one line what went wrong if the user can mend it."""
    if not FLAGS.debug:
        # Libraries log each file that they write, and each thread that could not.
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
        run(changes)
    except (KeyboardInterrupt, ValueError, OSError, RuntimeError) as error:
        if FLAGS.debug:
            raise
        leave(error)


def main() -> None:
    """Runs the command line of this process, and exits."""
    app.run(_main, flags_parser=options.parse_flags)
