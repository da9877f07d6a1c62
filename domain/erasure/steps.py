"""The steps of an erasure: their order, which of them are taken, and which is next. Pure.

`infra.erasure.steps` carries a step out and returns its result; `ErasureProgress.after` applies the
result. Each step is safe to repeat: an erasure that a process left unfinished resumes at its next
step.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from itertools import takewhile

import msgspec


class ErasureStep(enum.StrEnum):
    """The steps in their order; each includes those before it.

    accepted: the request and its targets are on record.
    unreadable: the keys are destroyed, and the identities lead nowhere.
    recorded: the log records the erasure; snapshots are deleted.
    forgotten: no read model holds anything of the subjects.
    cleaned: the database's files hold nothing of what was deleted.
    completed: the erasure is certified.
    """

    ACCEPTED = "accepted"
    UNREADABLE = "unreadable"
    RECORDED = "recorded"
    FORGOTTEN = "forgotten"
    CLEANED = "cleaned"
    COMPLETED = "completed"


STEPS = tuple(ErasureStep)


class Taken(msgspec.Struct, frozen=True):
    """The step is done."""


class Unfinished(msgspec.Struct, frozen=True):
    """The step did a piece of its work; the next piece can follow at once."""


class Waiting(msgspec.Struct, frozen=True):
    """The step cannot be done yet.

    Attributes:
        reason: what it waits for, in words; holds nothing personal.
    """

    reason: str


class SentBack(msgspec.Struct, frozen=True):
    """The step found work for earlier steps.

    Attributes:
        to: the newest step that still counts as taken.
    """

    to: ErasureStep


StepResult = Taken | Unfinished | Waiting | SentBack


class ErasureProgress(msgspec.Struct, frozen=True):
    """The steps that an erasure has taken.

    Attributes:
        times: when each step was taken, in their order; the first is that of `ACCEPTED`.
        waits_for: what the next step waits for, in words; None: nothing.
    """

    times: tuple[datetime, ...]
    waits_for: str | None = None

    @classmethod
    def of(cls, times: Iterable[datetime | None], waits_for: str | None) -> ErasureProgress:
        """The progress that stored times make.

        Args:
            times: one for each of `STEPS`; None: not taken. A step counts only when all before it
                are taken.
        """
        taken = takewhile(lambda at: at is not None, times)
        return cls(tuple(at for at in taken if at is not None), waits_for)

    @property
    def step(self) -> ErasureStep:
        """The newest step that is taken."""
        return STEPS[len(self.times) - 1]

    @property
    def next_step(self) -> ErasureStep | None:
        """The step to carry out now; None: the erasure is completed."""
        return STEPS[len(self.times)] if len(self.times) < len(STEPS) else None

    def time_of(self, step: ErasureStep) -> datetime | None:
        """When a step was taken; None: it is not taken."""
        n = STEPS.index(step)
        return self.times[n] if n < len(self.times) else None

    def after(self, step: ErasureStep, result: StepResult, at: datetime) -> ErasureProgress:
        """The progress once a step was carried out. A step that is taken already changes nothing.

        Raises:
            ValueError: a step before it is not taken.
        """
        if self.time_of(step) is not None:
            return self
        if step is not self.next_step:
            raise ValueError(f"{step} follows {self.next_step}, which is not taken")
        match result:
            case Taken():
                return ErasureProgress((*self.times, at))
            case Unfinished():
                return ErasureProgress(self.times)
            case Waiting(reason):
                return ErasureProgress(self.times, reason)
            case SentBack(to):
                return ErasureProgress(self.times[: STEPS.index(to) + 1])
