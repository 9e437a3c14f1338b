"""Devices and processes: the only file that knows pmap, meshes and who writes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# The name under which per-device functions reduce: lax.psum(x, AXIS).
AXIS = 'batch'


@functools.cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), (AXIS,))


def process_index() -> int:
    """Number of this process, from 0."""
    return jax.process_index()


def process_count() -> int:
    """How many processes work together."""
    return jax.process_count()


def is_main_process() -> bool:
    """Whether this is the one process that writes."""
    return jax.process_index() == 0


def check_batch_size(batch_size: int, key: str) -> None:
    """Raises ValueError naming `key` unless all devices get equal shares of a global batch."""
    devices = jax.device_count()
    if batch_size < 1 or batch_size % devices:
        near = max(devices, batch_size // devices * devices)
        raise ValueError(f'{key}={batch_size} cannot be divided over {devices} devices; {near} can')


def replicated() -> NamedSharding:
    """Where a state lives: whole, on every device."""
    return NamedSharding(_mesh(), PartitionSpec())


def replicate(tree: Any) -> Any:
    """Places a tree of arrays, equal in all processes, on every device."""
    # Copies, because a donated state must not share a buffer with anything else.
    return jax.device_put(jax.tree.map(np.array, tree), replicated())


def shard_batch(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Spreads this process's share of a batch, [B, ...], over its devices.

    Returns:
      Global arrays [devices, per_device, ...]; the transfer may still be under way.
    """
    sharding = NamedSharding(_mesh(), PartitionSpec(AXIS))
    local = jax.local_device_count()

    def put(x):
        x = x.reshape(local, -1, *x.shape[1:])
        return jax.make_array_from_process_local_data(sharding, x)

    return {name: put(x) for name, x in batch.items()}


def compile_train_step(step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable:
    """Compiles a per-device `step(state, batch) -> (state, metrics)`; the old state is consumed.

    The step must bring state and metrics to agreement itself (psum over AXIS): what comes back is
    one device's copy of each.
    """
    return jax.pmap(
        step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0
    )


def compile_eval_step(step: Callable[[Any, Any], Any]) -> Callable:
    """Compiles a per-device `step(state, batch) -> rows` whose outputs are per example."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0)


def gather_rows(batches: list[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    """Fetches rows [devices, per_device, ...] of many evaluation steps, from all processes.

    Returns:
      One array [N, ...] a name, in an order that follows the devices: match rows by a column of
      theirs.
    """
    if jax.process_count() > 1:
        batches = [multihost_utils.process_allgather(b, tiled=True) for b in batches]
    fetched = jax.device_get(batches)
    flat = [{k: v.reshape(-1, *v.shape[2:]) for k, v in b.items()} for b in fetched]
    return {name: np.concatenate([b[name] for b in flat]) for name in flat[0]}


def wait_for_all(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
