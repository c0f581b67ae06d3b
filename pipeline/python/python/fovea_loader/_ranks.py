"""Which part of an epoch this process takes: from torch.distributed, else from the environment of its launcher."""

from __future__ import annotations

import os
import sys

# Variables of the number of a process and of how many there are, of each launcher.
LAUNCHERS = [
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
]


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) where nothing says otherwise."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    for launcher, rank, world in LAUNCHERS:
        # A batch script of Slurm is a step of one task, whatever its srun will start.
        if rank in os.environ and world in os.environ:
            return checked(number(rank), number(world), f"{launcher}'s {rank} and {world}")
    return 0, 1


def number(name: str) -> int:
    text = os.environ[name]
    if not text.strip().isdecimal():
        raise ValueError(f"the environment variable {name} is {text!r}, expected a number; or give rank= and world=")
    return int(text)


def checked(rank: int, world: int, of: str) -> tuple[int, int]:
    if not 0 <= rank < world:
        raise ValueError(f"{of}: rank {rank} of {world}, expected 0 to world - 1")
    return rank, world
