"""Saving and restoring a run: the only file that knows Orbax.

A checkpoint holds the state, the position in the data and the config. The best on validation
and the latest are both kept. Saving happens in the background; a save that was cut off is not seen
by readers.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN


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
        best = BestN(
            get_metric_fn=_score, reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            # best_fn makes Orbax store the metrics; which ones are kept is the policy's business.
            best_fn=_score,
            best_mode='min',
            preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self._manager = None
        if not read_only or self._folder.is_dir():
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(
        self,
        step: int,
        state: Any,
        data_state: dict[str, Any],
        config: dict[str, Any],
        score: float | None = None,
    ) -> None:
        """Starts saving; returns as soon as the state has been copied off the devices.

        Args:
          step: Number of finished steps.
          state: Tree of arrays.
          data_state: The data iterator's state after the last batch trained on.
          config: The run's config.
          score: What validation says of this state, the lower the better, if it was validated; the
            checkpoint may then become the best.
        """
        assert self._manager is not None
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data_state),
                config=ocp.args.JsonSave(config),
            ),
            metrics=None if score is None else {'score': score},
        )

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
          ValueError: when the checkpoint does not fit the target, naming the folder.
        """
        assert self._manager is not None
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f'{self._folder / str(step)} does not fit this config: {reason}'
            ) from error
        return restored['state'], restored['data']

    def wait(self) -> None:
        """Returns once everything is on disk."""
        if self._manager:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        if self._manager:
            self._manager.close()


def abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """What `restore` needs to know of a tree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
