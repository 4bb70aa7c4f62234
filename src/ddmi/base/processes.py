"""The processes of one launch: which one this is, of how many, and how they wait for one another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch

from ddmi.base.errors import UserError

PATIENCE = timedelta(days=2)
"""How long one waits for the others: shares of long work end hours apart."""


@dataclass(frozen=True)
class Processes:
    """One of `count` processes, number `rank`; `device` is the one that it was given, None where it may choose."""

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def main(self) -> bool:
        """Whether this is the one that talks and writes results."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def wanted() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_all_here(count: int) -> None:
    """Raises UserError when only `count` of the launched processes take part: some engines lose them in silence."""
    if count != wanted():
        raise UserError(f"{wanted()} processes were launched, but only {count} take part")


def launched() -> Processes:
    """What torchrun started; one process without it.

    Raises:
        UserError: several were launched, but do not find one another.
    """
    if wanted() == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    check_all_here(state.num_processes)
    return Processes(state.process_index, state.num_processes, state.device)
