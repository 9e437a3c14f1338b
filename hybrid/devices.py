"""Devices and processes: the only file that knows pmap, meshes and who writes."""

import ctypes
import faulthandler
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from concurrent import futures
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


def cluster_from_environment(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What the usual launchers say of the processes that they have started together.

    Args:
      environment: `os.environ`.

    Returns:
      Arguments of `jax.distributed.initialize`: those of torchrun and its like (`MASTER_ADDR`, ...)
      in full, none where JAX finds out by itself (srun, mpirun, TPU pods); None for a lone process.
    """

    def number(name: str) -> int:
        return int(environment.get(name) or 0)

    if number('WORLD_SIZE') > 1 and environment.get('MASTER_ADDR'):
        if not environment.get('MASTER_PORT'):
            raise ValueError('MASTER_ADDR is set, but not MASTER_PORT, which torchrun sets, too')
        arguments = {
            'coordinator_address': f'{environment["MASTER_ADDR"]}:{environment["MASTER_PORT"]}',
            'num_processes': number('WORLD_SIZE'),
            'process_id': number('RANK'),
        }
        if number('LOCAL_WORLD_SIZE') > 1:
            # Each process of a machine has one of its GPUs; JAX would give all of them to each.
            arguments['local_device_ids'] = [number('LOCAL_RANK')]
        return arguments
    # Inside a step that srun started; a batch script alone has SLURM_NTASKS, but is one process.
    by_slurm = 'SLURM_STEP_NODELIST' in environment and number('SLURM_STEP_NUM_TASKS') > 1
    by_mpi = number('OMPI_COMM_WORLD_SIZE') > 1
    on_pod = ',' in environment.get('TPU_WORKER_HOSTNAMES', '')
    return {} if by_slurm or by_mpi or on_pod else None


def initialize(coordinator: str = '', num_processes: int = 0, process_id: int = -1) -> None:
    """Joins the other processes of this run, if there are any; call it before anything else.

    Args:
      coordinator: `host:port` of process 0, the same everywhere; 'auto' lets JAX find out, as on
        TPU pods; '' takes what a launcher has put into the environment.
      num_processes: How many processes there are.
      process_id: Which one this is, from 0.

    Raises:
      ValueError: for a coordinator without the two numbers.
    """
    arguments: dict[str, Any] | None
    if coordinator == 'auto':
        arguments = {}
    elif coordinator:
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f'--coordinator={coordinator} needs --num_processes (is {num_processes}) and '
                f'--process_id (is {process_id}), from 0 to one less'
            )
        arguments = {
            'coordinator_address': coordinator,
            'num_processes': num_processes,
            'process_id': process_id,
        }
    else:
        arguments = cluster_from_environment(os.environ)
    if arguments is None:
        return
    # When another process dies JAX ends this one with a message, to which absl would have every
    # thread's stack added.
    faulthandler.disable()
    # SIGTERM is ours to handle, see interruption.py.
    jax.config.update('jax_enable_preemption_service', False)
    # A process that died is missed after so many seconds by those that wait for it.
    jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=30)


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed; call it before the first computation.

    XLA allocates a step's scratch memory, hundreds of megabytes, at every step. glibc would map it
    afresh each time, and on a CPU a good part of the step would go into page faults. Other C
    libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    # From malloc.h: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD.
    for option, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):
        mallopt(option, value)


def require_determinism(late: bool = False) -> bool:
    """Lets XLA use deterministic GPU kernels only; call it before anything else.

    Args:
      late: Whether JAX may have started already, so that nothing can be changed any more.

    Returns:
      Whether only these are used.

    Raises:
      ValueError: When the environment names a file of flags that lacks it.
      OSError: When it names a file that cannot be read.
    """
    flag, flags = '--xla_gpu_deterministic_ops=true', os.environ.get('XLA_FLAGS', '').strip()
    named = ''
    if flags and not flags.startswith('-'):  # A file of flags, as XLA tells it.
        named, flags = flags, pathlib.Path(flags).read_text()
    if flag in flags or late:
        return flag in flags
    if named:
        raise ValueError(f'XLA_FLAGS={named} names a file: add {flag} to that file')
    os.environ['XLA_FLAGS'] = f'{flags} {flag}'.strip()
    return True


def lost_process(error: BaseException) -> bool:
    """Whether an error means that another process of this run has gone."""
    signs = ('gloo', 'nccl', 'connection', 'coordination', 'unavailable', 'socket', 'barrier')
    return jax.process_count() > 1 and any(sign in str(error).lower() for sign in signs)


def device_count() -> int:
    """How many devices there are, over all processes."""
    return jax.device_count()


def on_cpu() -> bool:
    """Whether the devices are CPUs."""
    return jax.default_backend() == 'cpu'


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


def to_global(tree: Any) -> Any:
    """The same arrays as seen by all processes together, which is how they are saved; no copies."""
    if jax.process_count() == 1:
        return tree
    sharding = replicated()

    def convert(x: jax.Array) -> jax.Array:
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

    return jax.tree.map(convert, tree)


def any_process(flag: bool) -> bool:
    """Whether the flag is up on any process; all have to ask at the same time."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def from_main_process(tree: Any) -> Any:
    """A tree of arrays as the main process has it; all of them call this, with equal shapes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


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


@functools.cache
def _compilers() -> futures.Executor:
    # Half of a compilation takes one core only.
    return futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix='compile')


class Program:
    """A mapped step, compiled when it is first called, or in a thread before.

    Args:
      mapped: What `jax.pmap` returns.
    """

    def __init__(self, mapped: Any):
        self._mapped = mapped
        self._ahead: futures.Future | None = None

    def compile_ahead(self, *arguments: Any) -> None:
        """Begins to compile for such arguments, which are not consumed; nothing the second time.

        Args:
          *arguments: Arrays, or jax.ShapeDtypeStruct with the sharding that they will have.
        """
        # Several processes give it other arrays than those that they are called with.
        if self._ahead is None and jax.process_count() == 1:
            self._ahead = _compilers().submit(lambda: self._mapped.lower(*arguments).compile())

    def __call__(self, *arguments: Any) -> Any:
        """Takes the step."""
        if self._ahead is not None:
            try:
                self._ahead.result()  # JAX finds it as long as it is kept, and compiles no more.
            except BaseException:
                self._ahead = None  # So that the next call may try again.
                raise
        return self._mapped(*arguments)

    def lower(self, *arguments: Any) -> Any:
        """What JAX makes of it for such arguments."""
        return self._mapped.lower(*arguments)


def compile_train_step(step: Callable[[Any, Any], tuple[Any, Any]]) -> Program:
    """Compiles a per-device `step(state, batch) -> (state, metrics)`; the old state is consumed.

    The step must bring state and metrics to agreement itself (psum over AXIS): what comes back is
    one device's copy of each.
    """
    return Program(
        jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0)
    )


def compile_eval_step(step: Callable[[Any, Any], Any]) -> Program:
    """Compiles a per-device `step(state, batch) -> rows` whose outputs are per example."""
    return Program(jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=0))


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


def wait_for(tree: Any) -> None:
    """Returns once the arrays of a tree are computed."""
    jax.block_until_ready(tree)


def wait_for_all(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
