"""Saving and restoring a run: the only file that knows Orbax.

A checkpoint holds the state, the position in the data and the config. The best on validation and
the two latest are kept, so that a damaged one is never the only one. Saving happens in the
background; a save that was cut off is not seen by readers.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import pathlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from hybrid import devices

_LOG = logging.getLogger(__name__)


class SaveError(RuntimeError):
    """A checkpoint could not be saved; names the one that is left."""


class DamagedCheckpointError(RuntimeError):
    """A checkpoint cannot be read, or not wholly."""


def _score(metrics: dict[str, float]) -> float:
    return metrics['score']


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: The run's folder; checkpoints live in its `checkpoints/`.
      read_only: For evaluation: nothing is created, saved or cleaned up.
    """

    def __init__(self, workdir: str | pathlib.Path, *, read_only: bool = False):
        self._folder = pathlib.Path(workdir).resolve() / 'checkpoints'
        self._manager: ocp.CheckpointManager | None = None
        if read_only and not self._folder.is_dir():
            return
        self._check_metrics(set_aside=not read_only)
        best = BestN(
            get_metric_fn=_score, reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            # best_fn makes Orbax store the metrics; which ones are kept is the policy's business.
            best_fn=_score,
            best_mode='min',
            preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(
        self,
        step: int,
        state: Any,
        data_state: dict[str, Any],
        config: dict[str, Any],
        scores: Mapping[int | None, float] = types.MappingProxyType({}),
    ) -> None:
        """Starts saving; returns as soon as the state has been copied off the devices.

        Args:
          step: Number of finished steps.
          state: Tree of arrays.
          data_state: The data iterator's state after the last batch trained on.
          config: The run's config.
          scores: What validation says of this state, the lower the better: of all under None, by
            which the checkpoint may become the best, and of members of an ensemble by number.

        Raises:
          SaveError: when this or the previous checkpoint could not be written.
        """
        assert self._manager is not None
        metrics = {
            'score' if number is None else f'member_{number}': score
            for number, score in scores.items()
        }
        with self._saving():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(devices.to_global(state)),
                    data=ocp.args.JsonSave({'data': data_state, 'structure': _structure(state)}),
                    config=ocp.args.JsonSave(config),
                ),
                metrics=metrics if None in scores else None,
            )

    def scores(self, step: int) -> dict[int | None, float]:
        """The `scores` that were saved with a checkpoint."""
        metrics = (self._manager.metrics(step) if self._manager else None) or {}
        return {
            None if name == 'score' else int(name.removeprefix('member_')): value
            for name, value in metrics.items()
        }

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, in order."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def step(self, which: str) -> int:
        """The step of the `best` or the `last` checkpoint.

        Raises:
          ValueError: for another word than those two.
          FileNotFoundError: when there is no such checkpoint.
        """
        if which not in ('best', 'last'):
            raise ValueError(f'--checkpoint={which} is not one of best, last')
        if not self.steps():
            raise FileNotFoundError(f'{self._folder}: no checkpoint there; has the run saved one?')
        assert self._manager is not None
        if which == 'last':
            return self.steps()[-1]
        step = self._manager.best_step()
        if step is None:
            raise FileNotFoundError(
                f'{self._folder}: no checkpoint was validated yet; take --checkpoint=last'
            )
        return step

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint.

        Args:
          step: Which.
          target: Tree of jax.ShapeDtypeStruct with shardings: what is expected, and where it goes.

        Returns:
          (state, data_state)

        Raises:
          ValueError: when the checkpoint does not fit the target, naming folder and array.
          DamagedCheckpointError: when it cannot be read.
        """
        assert self._manager is not None
        folder = self._folder / str(step)
        saved, data_state = self._record(step)
        _check_structure(folder, saved, _structure(target))
        with _reading(folder):
            arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            return self._manager.restore(step, args=arguments)['state'], data_state

    def restore_to_evaluate(self, step: int, target: Any) -> Any:
        """Reads a checkpoint without the optimiser's state, which is two thirds of it.

        Args:
          step: Which.
          target: As for `restore`: a TrainState, or a dict of them.

        Returns:
          The state, whose `opt_state` is empty.

        Raises:
          ValueError, DamagedCheckpointError: as `restore`.
        """
        assert self._manager is not None
        folder = self._folder / str(step)
        _check_structure(folder, self._record(step)[0], _structure(target))

        def is_state(node: Any) -> bool:
            return hasattr(node, 'opt_state')

        def wanted_of(state: Any) -> dict[str, Any]:
            fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
            return {k: v for k, v in fields.items() if k != 'opt_state' and v is not None}

        wanted = jax.tree.map(wanted_of, target, is_leaf=is_state)
        arguments = ocp.args.PyTreeRestore(
            wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=True,
        )
        with _reading(folder):
            found = self._manager.restore(step, args=ocp.args.Composite(state=arguments))['state']
        return jax.tree.map(
            lambda state, fields: dataclasses.replace(state, **fields, opt_state=()),
            target,
            found,
            is_leaf=is_state,
        )

    def variables(self, step: int) -> dict[str, Any]:
        """Reads what a checkpoint holds but for the optimiser's state, whatever the config was.

        Returns:
          The fields of its TrainState as nested dicts of NumPy arrays; of an ensemble a dict of
          them, by the names of its groups.

        Raises:
          DamagedCheckpointError: when it cannot be read.
        """
        assert self._manager is not None
        described, _ = self._record(step)
        depth = 0 if 'member' in described else 1  # of the fields' names
        target: dict[str, Any] = {}
        for name, text in described.items():
            *parents, leaf = name.split('/')
            if (*parents, leaf)[depth] == 'opt_state':
                continue
            node = target
            for parent in parents:
                node = node.setdefault(parent, {})
            dtype, shape = text.rstrip(']').split('[')
            node[leaf] = jax.ShapeDtypeStruct([int(n) for n in shape.split(',') if n], dtype)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        arguments = ocp.args.PyTreeRestore(target, restore_args=as_numpy, partial_restore=True)
        with _reading(self._folder / str(step)):
            return self._manager.restore(step, args=ocp.args.Composite(state=arguments))['state']

    def data_state(self, step: int) -> dict[str, Any]:
        """The data iterator's state that a checkpoint holds.

        Raises:
          DamagedCheckpointError: when it cannot be read.
        """
        return self._record(step)[1]

    def _record(self, step: int) -> tuple[dict[str, str], dict[str, Any]]:
        assert self._manager is not None
        with _reading(self._folder / str(step)):
            arguments = ocp.args.Composite(data=ocp.args.JsonRestore())
            record = self._manager.restore(step, args=arguments)['data']
            return record['structure'], record['data']

    def restore_latest(self, target: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Reads the latest checkpoint that can be read; a damaged one is renamed, and said so.

        Returns:
          (step, state, data_state), or None when there is no checkpoint.

        Raises:
          ValueError: when it does not fit the target.
          DamagedCheckpointError: when there are checkpoints and none can be read; none is touched.
        """
        damaged: list[int] = []
        for step in reversed(self.steps()):
            try:
                state, data_state = self.restore(step, target)
            except DamagedCheckpointError as error:
                _LOG.warning('%s', error)
                damaged.append(step)
                continue
            for bad in damaged:
                self._set_aside(self._folder / str(bad))
            if damaged:
                _LOG.warning('%s: going back to step %d', self._folder, step)
            return step, state, data_state
        if damaged:
            raise DamagedCheckpointError(
                f'{self._folder}: no checkpoint can be read (steps {damaged}). If that is '
                'final, remove them or take another --workdir'
            )
        return None

    def restore_best(self, target: Any) -> tuple[int, Any]:
        """Reads the best checkpoint that can be read; a damaged one is renamed, and said so.

        Returns:
          (step, state)

        Raises:
          FileNotFoundError: when none that was validated is left.
        """
        while True:
            step = self.step('best')
            try:
                return step, self.restore(step, target)[0]
            except DamagedCheckpointError as error:
                _LOG.warning('%s; taking the best of the others', error)
                self._set_aside(self._folder / str(step))

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
          SaveError: when something could not be written.
        """
        if self._manager:
            with self._saving():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being saved and lets go of the folder."""
        if self._manager:
            with self._saving():
                self._manager.close()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            reason = _first_line(error)
            if 'No space left' in str(error):
                reason = 'no space left on the device'
            assert self._manager is not None
            left = sorted(self._manager.all_steps(read=True))
            kept = f'the one of step {left[-1]} is whole' if left else 'there is none yet'
            raise SaveError(
                f'{self._folder}: a checkpoint could not be saved ({reason}); {kept}. '
                'Once that is mended, the same command continues from there'
            ) from error

    def _check_metrics(self, set_aside: bool) -> None:
        """Finds checkpoints whose metrics cannot be read, on which Orbax would not even open."""
        for path in sorted(self._folder.glob('[0-9]*/metrics/metrics')):
            try:
                json.loads(path.read_text())
            except ValueError as error:
                if not set_aside:
                    raise DamagedCheckpointError(f'{path} is damaged ({error})') from None
                _LOG.warning('%s is damaged; passing over that checkpoint', path)
                self._set_aside(path.parents[1])

    def _set_aside(self, folder: pathlib.Path) -> None:
        if devices.is_main_process():
            names = (f'damaged-{folder.name}-{number}' for number in itertools.count())
            free = (name for name in names if not folder.with_name(name).exists())
            folder.rename(folder.with_name(next(free)))
        devices.wait_for_all(f'set aside {folder.name}')
        if self._manager:
            self._manager.reload()

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """What `restore` needs to know of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _structure(tree: Any) -> dict[str, str]:
    """Path of every array to its type and shape."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): f'{x.dtype}{list(x.shape)}'
        for path, x in leaves
    }


def _check_structure(folder: pathlib.Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, 'absent'), wanted.get(name, 'absent')
        if there != here:
            raise ValueError(
                f'{folder} does not fit this config: {name} is {there} there, and {here} by the '
                'config. Leave config.model, config.optimizer and config.finetune as they were, or '
                'train anew'
            )


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[None]:
    # TensorStore and Orbax have no error class of their own for what they cannot read.
    try:
        yield
    except Exception as error:
        raise DamagedCheckpointError(f'{folder} is damaged ({_first_line(error)})') from error


def _first_line(error: BaseException) -> str:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line.split('. See full')[0][:200]
