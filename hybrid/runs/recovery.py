"""Reads the checkpoint to go on from, past those that are damaged."""

import logging
from typing import Any

from hybrid.runs.checkpoints import Checkpoints
from hybrid.runs.damage import DamagedCheckpointError

_LOG = logging.getLogger(__name__)


def restore_latest(saved: Checkpoints, target: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """Reads the latest checkpoint that can be read; warns of damaged ones, and renames them.

    Args:
      saved: The checkpoints of the workdir.
      target: As for `Checkpoints.restore`.

    Returns:
      (step, state, data_state), or None when there is no checkpoint.

    Raises:
      ValueError: when it does not fit the target.
      DamagedCheckpointError: when there are checkpoints and none can be read; none is touched.
    """
    damaged: list[int] = []
    for step in reversed(saved.steps()):
        try:
            state, data_state = saved.restore(step, target)
        except DamagedCheckpointError as error:
            _LOG.warning('%s', error)
            damaged.append(step)
            continue
        for bad in damaged:
            saved.set_aside(bad)
        if damaged:
            _LOG.warning('%s: going back to step %d', saved.folder, step)
        return step, state, data_state
    if damaged:
        raise DamagedCheckpointError(
            f'{saved.folder}: no checkpoint can be read (steps {damaged}). If that is final, '
            'remove them or take another --workdir'
        )
    return None


def restore_best(saved: Checkpoints, target: Any) -> tuple[int, Any]:
    """Reads the best checkpoint that can be read; warns of damaged ones, and renames them.

    Args:
      saved: The checkpoints of the workdir.
      target: As for `Checkpoints.restore`.

    Returns:
      (step, state)

    Raises:
      FileNotFoundError: when none that was validated is left.
    """
    while True:
        step = saved.step('best')
        try:
            return step, saved.restore(step, target)[0]
        except DamagedCheckpointError as error:
            _LOG.warning('%s; taking the best of the others', error)
            saved.set_aside(step)
