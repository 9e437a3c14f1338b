"""The command line: it starts the mode that is asked for, and ends with one line about an error.

`hybrid/options.py` describes and parses the options.
"""

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import NoReturn

from absl import app
from absl import logging as absl_logging

from hybrid import files, options
from hybrid.options import FLAGS

# What the program itself raises, with words for the user.
_EXPECTED = (ValueError, OSError, RuntimeError)


def run(changes: list[str]) -> None:
    """Does what the flags say. Each mode is imported here, so that --help and errors are quick."""
    configs, folders = options.load_configs(changes)
    config, folder = configs[0], folders[0]
    output = files.expanded(FLAGS.output) if FLAGS.output else None
    if FLAGS.mode == 'crop':  # Which does not start JAX.
        from hybrid.modes import crop

        crop.crop(config, FLAGS.input, FLAGS.output)
        return
    if FLAGS.mode == 'score':
        from hybrid.modes import score

        score.score(FLAGS.input, FLAGS.output)
        return
    if FLAGS.mode == 'report':
        from hybrid.modes import report

        report.report(folders, output, FLAGS.faces, config.data)
        return

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
        from hybrid.data import prepared, several

        for one in several.each(config):
            builder = prepared.create_prepared_builder(one)
            print(f'{builder.info.full_name} is in {builder.data_dir}: {datasets.sizes(builder)}')
    elif FLAGS.mode == 'audit':
        from hybrid.modes import audit

        audit.audit(config, output, [path for path in FLAGS.input.split(',') if path])
    elif FLAGS.mode == 'evaluate':
        from hybrid.modes import evaluate

        evaluate.evaluate(configs, folders, FLAGS.split, FLAGS.checkpoint, output, FLAGS.conditions)
    elif FLAGS.mode == 'unstack':
        from hybrid.modes import stacking

        stacking.unstack(config, folder, FLAGS.checkpoint, output)
    elif FLAGS.mode == 'stack':
        from hybrid.modes import stacking

        stacking.stack(configs, folders, FLAGS.checkpoint, output)
    elif FLAGS.mode == 'demo':
        from hybrid.modes import demo

        demo.demo(configs, folders, FLAGS.checkpoint, FLAGS.port)
    elif FLAGS.mode == 'export':
        from hybrid.modes import export

        export.export(configs, folders, FLAGS.checkpoint, output)
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


def explain(error: BaseException) -> str:
    """One line about an error, which says what to do."""
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted; the same command begins this again, or continues what it had done'
    if 'jax' in sys.modules:
        from hybrid import devices

        if devices.lost_process(error):
            return (
                f'another process of this run has gone ({str(error).splitlines()[0]}); start all '
                'of them again, and the run continues after its last checkpoint'
            )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f'{error}: the disk is full; make room, and the same command continues'
    if isinstance(error, MemoryError):
        return f'not enough memory ({error}); a smaller batch size may help'
    if not isinstance(error, _EXPECTED):
        text = ' '.join(str(error).split())
        return f'{type(error).__name__}: {text}; --debug shows where in the program this happened'
    return str(error)


def end(error: BaseException) -> NoReturn:
    """Says in one line what went wrong, and ends the program with status 1.

    A notebook in which the program was started lives on.
    """
    sys.stdout.flush()
    print(f'error: {explain(error)}', file=sys.stderr, flush=True)
    saving = sys.modules.get('hybrid.runs.checkpoints')
    if (saving and isinstance(error, saving.SaveError)) or (
        'jax' in sys.modules and sys.modules['jax'].distributed.is_initialized()
    ):
        # An ordinary exit would wait for the other processes, or for threads that cannot write.
        os._exit(1)
    sys.exit(1)


def interrupt(number: int, frame: types.FrameType | None) -> None:
    """Makes SIGTERM do what Ctrl-C does, so that what is half done is tidied up."""
    del number, frame
    raise KeyboardInterrupt


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Sets up logging, signals and hooks; afterwards they are as they were.

    Outside of notebooks what silences libraries stays until the process has ended: what they would
    still print then has been said.
    """
    logger, handler = logging.getLogger('hybrid'), logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(message)s'))
    hooks = threading.excepthook, sys.unraisablehook
    asyncio_logger = logging.getLogger('asyncio')
    verbosity, asyncio_level = absl_logging.get_verbosity(), asyncio_logger.level
    before = logger.level, logger.propagate
    on_terminate = None
    if not FLAGS.debug:
        # Libraries log each file that they write, and each thread that could not.
        absl_logging.set_verbosity(absl_logging.FATAL)
        asyncio_logger.setLevel(logging.CRITICAL)
        threading.excepthook = lambda arguments: None
        sys.unraisablehook = lambda arguments: None
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if threading.current_thread() is threading.main_thread():
        on_terminate = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
        if 'ipykernel' in sys.modules:
            threading.excepthook, sys.unraisablehook = hooks
            absl_logging.set_verbosity(verbosity)
            asyncio_logger.setLevel(asyncio_level)
        if on_terminate is not None:
            signal.signal(signal.SIGTERM, on_terminate)


def _main(changes: list[str]) -> None:
    """Runs, and says in one line what went wrong."""
    with _settings():
        try:
            run(changes)
        except (KeyboardInterrupt, Exception) as error:
            if FLAGS.debug:
                raise
            end(error)


def main() -> None:
    """Runs the command line of this process, and exits."""
    app.run(_main, flags_parser=options.parse_flags)
