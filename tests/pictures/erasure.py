"""The picture of an erasure: what each step destroys, and what a crash there leaves."""

from __future__ import annotations

from typing import NamedTuple

from domain.erasure.steps import ErasureStep
from tests.pictures.svg import arrow, box, picture, text


class Stop(NamedTuple):
    """
    Attributes:
        gone: what is destroyed or written by the time that the step is reached.
        crash: what a process leaves that dies before the next step is reached.
    """

    step: ErasureStep
    gone: tuple[str, ...]
    crash: tuple[str, ...]


STOPS = (
    Stop(
        ErasureStep.ACCEPTED,
        ("On record: whom, why, which API key asked.", "Nothing is destroyed yet."),
        (
            "Of a request for up to 1,000: nothing, it was never taken on;",
            "its keys go in the same transaction. Of a larger one: a request",
            "that any process carries on.",
        ),
    ),
    Stop(
        ErasureStep.UNREADABLE,
        (
            "Destroyed: the subject keys, those of all merged into them, and",
            "the keys of definitions and saved views that name them.",
            "Deleted: identities. Other processes drop cached keys at once.",
        ),
        (
            "Sealed events that nothing opens. The log does not say so yet:",
            "upkeep, or any process, appends it.",
        ),
    ),
    Stop(
        ErasureStep.RECORDED,
        (
            "Appended: erased, once for each; cleaned, for each definition.",
            "Deleted: snapshots. Projectors delete their rows as they read it.",
        ),
        (
            "Read models that still show it. Projectors go on from their",
            "checkpoints; each batch is one transaction.",
        ),
    ),
    Stop(
        ErasureStep.FORGOTTEN,
        (
            "No read model has a row of it. Dropped: all pasts, and counters that",
            "ask by e-mail. Destinations are told from the log, step or no step.",
        ),
        (
            "Deleted rows in the database's files. What was written anew so",
            "far is on record, and is not written again.",
        ),
    ),
    Stop(
        ErasureStep.CLEANED,
        (
            "Written anew: tables that held it, and statistics. Let go: the",
            "write-ahead log from before. The ledger was kept before that.",
        ),
        ("An erasure without its certificate: any process issues it.",),
    ),
    Stop(
        ErasureStep.COMPLETED,
        (
            "The signed certificate: steps, random ids, fingerprints of the",
            "destroyed keys, tables written anew, heads of the log.",
        ),
        ("Nothing: it is done.",),
    ),
)
SAYS = (
    "The six steps of an erasure from top to bottom: accepted, unreadable, recorded, forgotten,"
    " cleaned, completed. Beside each step stands what is destroyed by then, and what a crash"
    " after it leaves."
)
WIDTH, ROW, GAP = 1_000, 17, 26
LEFT, GONE, CRASH = 15, 175, 600


def drawn() -> str:
    parts = [
        text("step", LEFT + 67, 30, "title middle"),
        text("what is so from then on", GONE, 30, "title"),
        text("what a crash after it leaves", CRASH, 30, "title"),
    ]
    y = 48
    for n, stop in enumerate(STOPS):
        height = max(48, ROW * max(len(stop.gone), len(stop.crash)) + 14)
        kind = "keys" if stop.step is ErasureStep.UNREADABLE else "box"
        if stop.step is ErasureStep.COMPLETED:
            kind = "store"
        parts += [
            box(kind, LEFT, y, 135, height),
            text(stop.step.value, LEFT + 67, y + height // 2 + 5, "middle"),
            *(text(line, GONE, y + 18 + ROW * i, "small") for i, line in enumerate(stop.gone)),
            *(text(line, CRASH, y + 18 + ROW * i, "small") for i, line in enumerate(stop.crash)),
        ]
        if n + 1 < len(STOPS):
            parts.append(arrow(f"M{LEFT + 67} {y + height} V{y + height + GAP - 3}"))
        y += height + GAP
    return picture(WIDTH, y, SAYS, parts)
