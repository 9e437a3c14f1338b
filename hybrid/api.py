"""The door for Python: `hybrid.load`, `train`, `evaluate`, `score` and `get_config`.

What is loaded here behaves like a library: it defines no flags, configures no logging, takes no
signals, prints nothing, and raises what goes wrong. A training and an evaluation print as they do
on the command line. Every error is a ValueError, OSError, RuntimeError or TypeError that says what
to do.
"""

import contextlib
import logging
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hybrid import files

# Nothing here may import JAX: `_settle_kernels` comes first. Nor anything else that an export does
# without.
if TYPE_CHECKING:
    import ml_collections

    from hybrid.runs.model import Model
    from hybrid.runs.trained import Trained

PathLike = str | os.PathLike
Overrides = Mapping[str, Any]


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Leaves out what Orbax and TFDS tell through absl of each file, but for errors.

    absl would also configure logging with its first message, if the program has not done so.
    """

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger, handler = logging.getLogger('absl'), None
    if not logging.root.handlers:
        # What Python does by itself with warnings where nothing is configured.
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        logging.root.addHandler(handler)
    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)
        if handler:
            logging.root.removeHandler(handler)


@_quiet_absl()
def load(
    workdir: PathLike | Sequence[PathLike],
    *,
    checkpoint: str = '',
    flip_average: bool | None = None,
    overrides: Overrides | None = None,
) -> 'Model':
    """Loads what a training has left in its workdir, or an export.

    Call it before anything else imports JAX if you can: then it may switch on in XLA what makes
    convolutions on CPUs faster. Afterwards it takes what was switched on before.

    Args:
      workdir: The folder of a training. Several, in a list or separated by commas, are combined as
        `--mode=evaluate` combines them. `W#2` is member 2 of the ensemble in W; `W@last` and
        `W@400` are its last checkpoint and the one of step 400. Or the folder of an export: that is
        loaded without JAX, by onnxruntime, and predicts likewise; see `runs.export.loaded`. It has
        its settings inside: none of the other arguments goes with it.
      checkpoint: 'best' or 'last', where the address does not say; by default the one that was best
        on validation, or the last where none was validated.
      flip_average: Whether to average over the image and its mirror image, which takes twice as
        long and is a little more accurate; by default as `config.evaluate.flip_average` says.
      overrides: Other values for keys of the config: {'evaluate.batch_size': 32}.

    Raises:
      FileNotFoundError: when there is no such workdir, or no such checkpoint in it.
      ValueError: when it cannot be read, or an override is wrong, or several may not be combined.
      RuntimeError: when it is no export, and only what exports need is installed.
    """
    if isinstance(workdir, str | os.PathLike):
        from hybrid.runs.export import loaded

        if loaded.holds_export(workdir):
            if checkpoint or flip_average is not None or overrides:
                raise ValueError(
                    f'{workdir} is an export, which has its settings inside: export the model anew '
                    'with another checkpoint or other overrides'
                )
            return loaded.Exported(workdir)  # type: ignore[return-value]  # it predicts likewise
        if os.path.isfile(os.path.expanduser(workdir)):
            raise ValueError(f'{workdir} is a file; name the folder of a training or an export')
    overrides = _copy_overrides(overrides)
    if flip_average is not None:
        overrides['evaluate.flip_average'] = flip_average
    models = _restore(workdir, checkpoint, overrides)

    from hybrid.modes import export
    from hybrid.runs.model import Model

    return Model(models, export.write)


@_quiet_absl()
def train(
    config: 'ml_collections.ConfigDict | PathLike',
    workdir: PathLike | None = None,
    *,
    overrides: Overrides | None = None,
    overwrite_config: bool = False,
) -> 'Model':
    """Trains, or continues the training in a workdir, then evaluates, as `--mode=train` does.

    It may run in a notebook, and in any thread. In the main thread an interruption (Ctrl-C, the
    notebook's stop button, SIGTERM) lets it finish its step and save: the same call goes on from
    there. A second one ends it at once.

    Args:
      config: A config, the name of a recipe such as 'quickstart', or the path of a recipe.
      workdir: Where everything goes; by default `runs/<name of the recipe>`.
      overrides: Other values for keys of the config: {'train.num_epochs': 2.0}.
      overwrite_config: Whether to go on although the workdir has another config.

    Returns:
      The model of the best checkpoint. Its scores are in the workdir's `evaluation/`.

    Raises:
      ValueError: for what is wrong with the config or the workdir.
      RuntimeError: when the loss was not finite, or a checkpoint could not be written.
      KeyboardInterrupt: when it was interrupted; everything is saved.
    """
    import ml_collections

    if isinstance(config, ml_collections.ConfigDict):
        if not workdir:
            raise ValueError('workdir: name the folder of the training')
        config = config.copy_and_resolve_references()
    elif not isinstance(config, str | os.PathLike):
        raise TypeError(
            f'config={config!r} is no ConfigDict and no name of a recipe; `overrides` takes a dict'
        )
    else:
        name, config = pathlib.Path(config).stem, get_config(config)
        workdir = workdir or pathlib.Path('runs') / name
    folder = files.expanded(workdir)
    _override(config, _copy_overrides(overrides))

    from hybrid.default_config import SCHEMA
    from hybrid.runs.workdir import recorded_kernels

    late = 'jax' in sys.modules  # Which the check of the config imports, but does not start.
    SCHEMA.check(config)
    _settle_kernels(config, late, recorded_kernels(folder))

    from hybrid import devices
    from hybrid.modes import train as mode

    devices.keep_freed_memory()
    if config.deterministic and not devices.require_determinism(late):
        logging.getLogger(__name__).warning(
            'deterministic=True has to be set before JAX is imported: on a GPU, a training that is '
            'continued may end differently'
        )
    try:
        mode.train_and_evaluate(config, folder, overwrite_config)
    except mode.Stopped as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    return load(folder)


@_quiet_absl()
def evaluate(
    model: 'Model | PathLike | Sequence[PathLike]',
    split: str = 'test',
    *,
    checkpoint: str = '',
    overrides: Overrides | None = None,
    output: PathLike | None = None,
    conditions: bool = False,
) -> dict[str, Any]:
    """Evaluates a split of the dataset, as `--mode=evaluate` does, and writes the same files.

    Args:
      model: From `load` or `train`; or what `load` takes as its workdir.
      split: The split.
      checkpoint: As for `load`; not for a model that is loaded.
      overrides: As for `load`, for instance of `data.dataset` and `data.manual_dir` to evaluate on
        another dataset; not for a model that is loaded.
      output: The folder for the results: by default the workdir, a folder in it for a member of an
        ensemble, and one beside the first workdir for several.
      conditions: Whether to evaluate it under blur, noise, other light and so on, too.

    Returns:
      The metrics by name: `age/mae` in years, `gender/accuracy` and so on. Of several datasets,
      those of each begin with its name: `utkface/age/mae`.

    Raises:
      ValueError: for a split that the dataset does not have, or other examples in it than the
        training saw; when `output` is the workdir of another run; and as `load`.
      NotADirectoryError: when `output` is a file.
    """
    if isinstance(model, str | os.PathLike | Sequence):
        models = _restore(model, checkpoint, _copy_overrides(overrides))
    elif checkpoint or overrides:
        raise ValueError('checkpoint and overrides are for `load`: this model is loaded already')
    elif hasattr(model, 'models'):
        model.check_process()
        models = list(model.models)
    else:
        raise TypeError(
            f'model={model!r} is neither a workdir nor a model that `load` has made of one (an '
            'export cannot be evaluated)'
        )

    from hybrid.modes import evaluate as mode
    from hybrid.runs import member_weights

    folders = [one.results for one in models]
    folder = files.expanded(output) if output else member_weights.combined_folder(folders)
    configs, workdirs = [one.config for one in models], [one.folder for one in models]
    mode.check(configs, workdirs, folder if output else None)
    opened = mode.open_datasets(configs, workdirs, str(split))
    return mode.evaluate_datasets(models, opened, str(split), folder, conditions)


def score(predictions: PathLike, *, output: PathLike) -> dict[str, Any]:
    """Scores a table of predictions and labels, as `--mode=score` does, and writes the same files.

    Args:
      predictions: The predictions.csv of an evaluation, or a CSV of another program with the
        columns `id`, `age`, `gender`, `predicted_age` and `female_probability`; if its name ends
        in .gz, compressed by gzip.
      output: The folder for the results.

    Returns:
      The metrics by name, as `evaluate`.

    Raises:
      ValueError, OSError: when the file cannot be read, or is no such table.
    """
    from hybrid.modes import score as mode

    return mode.score(predictions, output)


def get_config(name: PathLike = 'quickstart') -> 'ml_collections.ConfigDict':
    """The config of a recipe, to be changed and trained.

    Args:
      name: The name of a recipe that comes with the package, or the path of one.

    Raises:
      FileNotFoundError: when there is no such recipe.
    """
    from hybrid import recipes

    return recipes.get_config(name)


def _restore(
    workdir: PathLike | Sequence[PathLike], checkpoint: str, overrides: Overrides
) -> 'list[Trained]':
    try:
        from hybrid import default_config
        from hybrid.data import several
        from hybrid.runs import workdir as workdir_lib
        from hybrid.runs.address import parse
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f'workdir={workdir!r} is no export, and for a training all of hybrid has to be '
            f'installed ({error})'
        ) from None

    addresses = [parse(text, 'workdir') for text in _split_addresses(workdir)]
    configs = []
    for address in addresses:
        config = workdir_lib.load_config(address.folder, default_config.get_config())
        config.model.kernels = 'auto'  # Those recorded are of the machine that it was trained on.
        before = config.data.copy_and_resolve_references()
        _override(config, overrides)
        several.settle(config.data, before, overrides)
        configs.append(config)
    late = 'jax' in sys.modules
    for config in configs:
        _settle_kernels(config, late)

    from hybrid.runs import trained

    models = []
    for config, address in zip(configs, addresses, strict=True):
        wanted = address.checkpoint or str(checkpoint)
        model, state = trained.restore(config, address.folder, wanted, to_evaluate=True)
        if address.member is not None:
            model = trained.take_member(model, state, address.member)
        models.append(model)
    seen = [(model.folder.resolve(), model.step, model.member) for model in models]
    whole = {(folder, step) for folder, step, member in seen if member is None}
    parts = {(folder, step) for folder, step, member in seen if member is not None}
    if len(set(seen)) < len(seen) or whole & parts:
        raise ValueError(f'workdir={workdir!r} names a model twice')
    if len(models) > 1:
        trained.check_same_splits(models)
    return models


def _split_addresses(workdir: PathLike | Sequence[PathLike]) -> list[str]:
    """The addresses of one workdir or several; a folder may have a comma in its name."""
    if isinstance(workdir, str) and not files.expanded(workdir).is_dir():
        texts = [part.strip() for part in workdir.split(',')]
    elif isinstance(workdir, str | os.PathLike):
        texts = [os.fspath(workdir)]
    else:
        try:
            texts = [os.fspath(one) for one in workdir]
        except TypeError:
            raise TypeError(f'workdir={workdir!r} is no path, and no list of paths') from None
    if not texts or not all(texts):
        raise ValueError(f'workdir={workdir!r}: name the folder of a training, or several')
    return texts


def _copy_overrides(overrides: Overrides | None) -> dict[str, Any]:
    given = overrides or {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"overrides={given!r} is no dict such as {{'train.num_epochs': 2.0}}")
    return dict(given)


def _override(config: 'ml_collections.ConfigDict', overrides: Overrides) -> None:
    """Sets keys of a config; raises ValueError for one that is not there or a value of no use."""
    from hybrid.default_config import SCHEMA

    for key, value in overrides.items():
        if wrong := SCHEMA.wrong_name(key, ''):
            raise ValueError(f'overrides: {key}={value!r}: {wrong}')
        try:
            if value is None:  # Which a ConfigDict takes for any type.
                raise TypeError
            config.update_from_flattened_dict({key: value})
        except (KeyError, AttributeError, TypeError, ValueError, OverflowError):
            known = SCHEMA.keys.get(key)  # None of an entry of a value that is a dict.
            wanted = known.wanted() if known else 'does not fit there; give the whole dict'
            raise ValueError(f'overrides: {key}={value!r}: {wanted}') from None


def _settle_kernels(
    config: 'ml_collections.ConfigDict', late: bool, recorded: str = 'auto'
) -> None:
    """Settles `config.model.kernels`; `late` if the caller may have started JAX already."""
    from hybrid.ops import kernels

    if late:
        kernels.settle_late(config, recorded)
    else:
        kernels.settle(config, recorded)
