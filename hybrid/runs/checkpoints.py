"""Saves and restores a run; this is the only file that knows Orbax.

A checkpoint holds the state, the position in the data and the config. The best on validation and
the two latest are kept, so that a damaged one is never the only one. Saving happens in the
background, and readers do not see a save that was cut off.
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
from hybrid.runs import layout
from hybrid.runs.damage import DamagedCheckpointError, check_name, first_line, is_damage

_LOG = logging.getLogger(__name__)


class SaveError(RuntimeError):
    """A checkpoint could not be saved; the message names the last one that is whole."""


def _score(metrics: dict[str, float]) -> float:
    return metrics['score']


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: The run's folder; checkpoints are in its `checkpoints/`.
      read_only: Whether nothing may be created, saved or cleaned up, as in evaluation.

    Attributes:
      folder: Where the checkpoints are.

    Raises:
      ValueError: when the folder's name cannot be handed to Orbax.
    """

    def __init__(self, workdir: str | pathlib.Path, *, read_only: bool = False):
        self.folder = pathlib.Path(workdir).resolve() / 'checkpoints'
        check_name(self.folder)
        # A training sets damaged ones aside itself.
        remedy = '; rename the folder of that checkpoint, and it does not count'
        self._remedy = remedy if read_only else ''
        self._manager: ocp.CheckpointManager | None = None
        if read_only and not self.folder.is_dir():
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
        self._manager = ocp.CheckpointManager(self.folder, options=options)

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
          scores: What validation says of this state; the lower, the better. The score under None
            is that of the whole, by which the best checkpoint is chosen; those of the members of
            an ensemble are under their numbers.

        Raises:
          SaveError: when this or the previous checkpoint could not be written.
        """
        assert self._manager is not None
        metrics = {
            'score' if number is None else f'member_{number}': score
            for number, score in scores.items()
        }
        record = {'data': data_state, 'structure': layout.describe(state)}
        with self._saving():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(devices.to_global(state)),
                    data=ocp.args.JsonSave(record),
                    config=ocp.args.JsonSave(config),
                ),
                metrics=metrics if None in scores else None,
            )

    def scores(self, step: int) -> dict[int | None, float]:
        """Returns the `scores` that were saved with a checkpoint."""
        metrics = (self._manager.metrics(step) if self._manager else None) or {}
        return {
            None if name == 'score' else int(name.removeprefix('member_')): value
            for name, value in metrics.items()
        }

    def steps(self) -> list[int]:
        """Returns the steps that have a complete checkpoint, in order."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def step(self, which: str) -> int:
        """Returns the step of a checkpoint.

        Args:
          which: 'best', 'last', or a step, such as '400'; '' is the best one, or the last where
            none was validated.

        Raises:
          ValueError: for any other word.
          FileNotFoundError: when there is no such checkpoint.
        """
        if which not in ('best', 'last', '') and not which.isdecimal():
            raise ValueError(f'--checkpoint={which} is not one of best, last')
        if not self.steps():
            raise FileNotFoundError(f'{self.folder}: no checkpoint there; has the run saved one?')
        assert self._manager is not None
        if which.isdecimal():
            if int(which) in self.steps():
                return int(which)
            steps = ', '.join(map(str, self.steps()))
            raise FileNotFoundError(
                f'{self.folder}: no checkpoint of step {which}; there are {steps}'
            )
        if which == 'last':
            return self.steps()[-1]
        step = self._manager.best_step()
        if step is None and not which:
            return self.steps()[-1]
        if step is None:
            raise FileNotFoundError(
                f'{self.folder}: no checkpoint was validated yet; take --checkpoint=last'
            )
        return step

    def has_best(self) -> bool:
        """Whether a checkpoint was validated with a finite score."""
        return self._manager is not None and self._manager.best_step() is not None

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint.

        Args:
          step: Of the checkpoint.
          target: Tree of jax.ShapeDtypeStruct with shardings: what is expected there, and where it
            is to be placed.

        Returns:
          (state, data_state)

        Raises:
          ValueError: when the checkpoint does not fit the target, naming folder and array.
          DamagedCheckpointError: when it is damaged.
          OSError: when it cannot be read for another reason, such as a lack of memory or rights.
        """
        saved, data_state = self._record(step)
        layout.check(self.folder / str(step), saved, layout.describe(target))
        return self._read(step, state=ocp.args.StandardRestore(target))['state'], data_state

    def restore_to_evaluate(self, step: int, target: Any) -> Any:
        """Reads a checkpoint without the optimiser's state, which is two thirds of it.

        Args:
          step: Of the checkpoint.
          target: As for `restore`: a TrainState, or a dict of them.

        Returns:
          The state on every device; its `opt_state` is empty.

        Raises:
          ValueError, DamagedCheckpointError, OSError: as `restore`.
        """
        layout.check(self.folder / str(step), self._record(step)[0], layout.describe(target))
        return jax.tree.map(
            lambda state, fields: dataclasses.replace(
                state, **devices.replicate(fields), opt_state=()
            ),
            target,
            self.variables(step),
            is_leaf=lambda node: hasattr(node, 'opt_state'),
        )

    def variables(self, step: int) -> dict[str, Any]:
        """Reads a checkpoint without the optimiser's state, whatever config it was saved with.

        Returns:
          The fields of its TrainState as nested dicts of NumPy arrays; of an ensemble a dict of
          them, by the names of its groups.

        Raises:
          DamagedCheckpointError, OSError: as `restore`.
        """
        target = layout.without_optimizer(self._record(step)[0])
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        return self._read(
            step,
            state=ocp.args.PyTreeRestore(target, restore_args=as_numpy, partial_restore=True),
        )['state']

    def data_state(self, step: int) -> dict[str, Any]:
        """Returns the state of the data iterator that a checkpoint holds.

        Raises:
          DamagedCheckpointError, OSError: as `restore`.
        """
        return self._record(step)[1]

    def _record(self, step: int) -> tuple[layout.Layout, dict[str, Any]]:
        """The layout of the state, and the data iterator's state."""
        record = self._read(step, data=ocp.args.JsonRestore())['data']
        for part in ('structure', 'data'):
            if not isinstance(record, dict) or not isinstance(record.get(part), dict):
                raise self._damaged(step, f'data/metadata lacks {part!r}')
        return record['structure'], record['data']

    def _read(self, step: int, **parts: Any) -> Any:
        """Reads parts of a checkpoint."""
        assert self._manager is not None
        # TensorStore and Orbax have no error class of their own for what they cannot read.
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**parts))
        except Exception as error:
            folder = self.folder / str(step)
            if is_damage(error):
                raise self._damaged(step, first_line(error)) from error
            raise OSError(
                f'{folder} could not be read ({first_line(error)}), which need not mean that it '
                'is damaged. Once that is mended, the same command continues'
            ) from error

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        folder = self.folder / str(step)
        return DamagedCheckpointError(f'{folder} is damaged ({reason}){self._remedy}')

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
            reason = first_line(error)
            if 'No space left' in str(error):
                reason = 'no space left on the device'
            assert self._manager is not None
            left = sorted(self._manager.all_steps(read=True))
            kept = f'the one of step {left[-1]} is whole' if left else 'there is none yet'
            raise SaveError(
                f'{self.folder}: a checkpoint could not be saved ({reason}); {kept}. '
                'Once that is mended, the same command continues from there'
            ) from error

    def _check_metrics(self, set_aside: bool) -> None:
        """Finds checkpoints whose metrics cannot be read, on which Orbax would not even open."""
        damaged = []
        for path in sorted(self.folder.glob('[0-9]*/metrics/metrics')):
            if not path.parents[1].name.isdecimal():  # One that was not saved to its end.
                continue
            try:
                found = json.loads(path.read_text())
                if not isinstance(found, dict) or not isinstance(found.get('score'), int | float):
                    raise ValueError("it lacks a 'score'")
            except ValueError as error:
                if not set_aside:
                    raise DamagedCheckpointError(
                        f'{path} is damaged ({error}){self._remedy}'
                    ) from None
                damaged.append(path)
        if set_aside:
            # No process may rename one before all have looked.
            devices.wait_for_all('read the metrics of checkpoints')
        if damaged and len(damaged) == sum(p.name.isdecimal() for p in self.folder.iterdir()):
            raise DamagedCheckpointError(
                f'{damaged[-1]} is damaged, and so are those of all checkpoints there; rename '
                f'{self.folder} to begin anew'
            )
        for path in damaged:
            _LOG.warning('%s is damaged; passing over that checkpoint', path)
            self.set_aside(path.parents[1].name)

    def set_aside(self, name: int | str) -> None:
        """Renames a damaged checkpoint, by its step or its folder's name: it does not count then.

        All processes have to call this together.
        """
        folder = self.folder / str(name)
        if devices.is_main_process():
            names = (f'damaged-{name}-{number}' for number in itertools.count())
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
    """Describes a tree of arrays as `restore` needs it."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
