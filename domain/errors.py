"""Refusals. Each says what is wrong and what to do; `api.http.problems` maps them to HTTP."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class Refusal(Exception):
    """A request that Annals understood and does not carry out.

    Attributes:
        code: stable, machine-readable name of the reason (kebab case).
        detail: a sentence for people: what is wrong and what to do.
        pointer: JSON pointer into what was sent, where one applies.
    """

    code = "refused"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class InvalidInput(Refusal):
    """A value is not acceptable."""

    code = "invalid-input"


class NotFound(Refusal):
    """The subject or definition does not exist, or the caller may not know of it."""

    code = "not-found"


class Conflict(Refusal):
    """The present state does not allow the request."""

    code = "conflict"


class NotYours(Refusal):
    """The thing belongs to another API key."""

    code = "not-yours"


class SubjectErased(Refusal):
    """The subject's key is destroyed: its events can be neither read nor written."""

    code = "erased"


class Suppressed(Refusal):
    """The identity was erased with suppression: Annals takes in nothing about it."""

    code = "suppressed"


class PeriodOver(Refusal):
    """The activity is older than retention keeps: the key of its month is destroyed."""

    code = "no-longer-kept"


class VersionConflict(Refusal):
    """Another writer appended to the stream first; the caller decides again."""

    code = "version-conflict"


class DuplicateMessage(Refusal):
    """The message id is on record."""

    code = "duplicate-message"


class UnreadableEvent(Exception):
    """A recorded event does not decrypt, though its subject's key exists."""


class Altered(Refusal):
    """The request needs a recorded event that does not decrypt, though its keys exist."""

    code = "altered"


class BeyondHead(Altered):
    """The log has rows past the head of a partition, which takes no append until that is mended.

    Attributes:
        partitions: the partitions concerned.
    """

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(
            "nothing can be appended to a partition of the log that this is in, which holds rows"
            " past its head; have the operator look at /api/status"
        )
        self.partitions = frozenset(partitions)


class Unavailable(Refusal):
    """Annals cannot answer now. The same request may succeed later."""

    code = "unavailable"


class TakesTooLong(Refusal):
    """The query exceeds its time limit."""

    code = "takes-too-long"

    def __init__(self) -> None:
        super().__init__(
            "this takes longer than a question may: narrow it, by a segment, a shorter condition or"
            " a shorter time"
        )


class NotReady(Refusal):
    """The answer is still being counted; the detail says how far the count is."""

    code = "not-ready"


class TooManyAtOnce(Refusal):
    """A bound on concurrent work is reached; other requests are served meanwhile.

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
