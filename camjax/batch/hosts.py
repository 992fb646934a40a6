"""Several hosts that share a run: each has its own chunks, and they meet only at the beginning and the end.

The processes find one another through JAX's distributed runtime; no array ever goes from one host to another.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils

from camjax.errors import CamjaxError


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins this process to the others of the run, before anything else asks JAX for devices.

    Args:
        coordinator: `HOST:PORT` of process 0; None lets JAX find the others (TPU pods, SLURM, GKE, Open MPI).
        processes: how many there are; None as found.
        process: which of them this one is, from 0; None as found.

    Raises:
        CamjaxError: the others cannot be found or reached.
    """
    if coordinator is not None and (processes is None or process is None):
        raise CamjaxError("--coordinator also needs --num-processes and --process-id")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CamjaxError(f"the other processes cannot be found: {reason}; give --coordinator HOST:PORT") from error


def first_says(well: bool) -> bool:
    """Waits for process 0, and gives every process what that one says."""
    if jax.process_count() == 1:
        return well
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(well)))


def meet(name: str) -> None:
    """Waits until every process is here; with one process nothing happens."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
