"""The small family of refusals. Each carries the fact that explains it and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class Refusal(Exception):
    """A request that Annals understood and will not carry out.

    Attributes:
        code: stable, machine-readable name of the reason (kebab case).
        detail: one sentence for people: what is wrong and what to do.
        pointer: JSON pointer into what was sent, where one applies.
    """

    code = "refused"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class InvalidInput(Refusal):
    """A value that cannot be accepted as it stands."""

    code = "invalid-input"


class NotFound(Refusal):
    """There is no such subject, or none that the caller may know of."""

    code = "not-found"


class Conflict(Refusal):
    """What is there stands in the way."""

    code = "conflict"


class NotYours(Refusal):
    """It belongs to others who asked for it."""

    code = "not-yours"


class SubjectErased(Refusal):
    """The subject's key has been destroyed: nothing of it can be read or written again."""

    code = "erased"


class Suppressed(Refusal):
    """The identity was erased for good: on request, nothing is taken in about it any more."""

    code = "suppressed"


class PeriodOver(Refusal):
    """Tracked activity that is older than what is kept of it: there is nothing to seal it with."""

    code = "no-longer-kept"


class VersionConflict(Refusal):
    """Another writer appended to the stream first; the decision has to be taken again."""

    code = "version-conflict"


class DuplicateMessage(Refusal):
    """A message id that is already remembered was about to be stored a second time."""

    code = "duplicate-message"


class UnreadableEvent(Exception):
    """A recorded event does not open, though its subject's key is there."""


class Altered(Refusal):
    """It rests on a recorded event that does not open, though its keys are there."""

    code = "altered"


class BeyondHead(Altered):
    """Rows of the log stand past the head of a partition: nothing can be appended to it.

    Attributes:
        partitions: those.
    """

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(
            "nothing can be appended to a partition of the log that this is in, which holds rows"
            " past its head; have the operator look at /api/status"
        )
        self.partitions = frozenset(partitions)


class Unavailable(Refusal):
    """Annals cannot answer now; the same request may succeed later."""

    code = "unavailable"


class TakesTooLong(Refusal):
    """The question takes longer than it may."""

    code = "takes-too-long"

    def __init__(self) -> None:
        super().__init__(
            "this takes longer than a question may: narrow it, by a segment, a shorter condition or"
            " a shorter time"
        )


class NotReady(Refusal):
    """What was asked for is still being counted; the message says how far it is."""

    code = "not-ready"


class TooManyAtOnce(Refusal):
    """More is asked for than there is room for; other requests are served meanwhile.

    Attributes:
        retry_after: seconds to wait before the same request is sent again.
    """

    code = "too-many"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """The detail of a refusal of an unknown name. Suggests near names, or lists all of a few."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    shown = near or (sorted(known) if len(known) <= 20 else [])
    hint = f"; there {'is' if len(shown) == 1 else 'are'} {', '.join(shown)}" if shown else ""
    if near:
        hint = f"; did you mean {' or '.join(near)}?"
    return f"unknown {what} {name[:128]!r}{hint}"
