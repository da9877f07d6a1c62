"""Replays the ledger of erasures at a start: erases again the subjects that a restored database
brought back, and ends again the activity that retention had ended (`infra.erasure.ledger`)."""

from __future__ import annotations

import structlog

from infra.bootstrap.annals import Annals
from infra.bootstrap.defaults import utc_now
from infra.erasure.ledger import LedgerNeeded, RetentionEntry

log = structlog.get_logger()


def replay_ledger(annals: Annals) -> None:
    """
    Raises:
        LedgerNeeded: the database was restored, and the ledger is missing, not whole, or older than
            the database.
    """
    ledger = annals.ledger
    is_restored = ledger.is_elsewhere()
    if is_restored:
        annals.pasts.drop_all()
    lost_runs: list[RetentionEntry] = []
    if ledger.path.exists():
        entries = ledger.read(ledger.path)
        revived = ledger.revived(entries)
        annals.erasure_requests.prepare_replay(revived)
        ledger.replay(entries, revived)
        if revived:
            log.warning("ledger.replayed", subjects=len(revived))
        lost_runs = ledger.lost_runs(entries)
    elif is_restored:
        raise LedgerNeeded(
            f"this database was restored, and {ledger.path} is not there: put the newest copy of"
            " the ledger of erasures there, which is in the data folder that was lost and in every"
            " backup, or run annals restore"
        )
    if is_restored:
        missing = ledger.missing(annals.log.erased_streams())
        if missing:
            raise LedgerNeeded(
                f"{ledger.path} is older than this database: it lacks {missing} erasures that the"
                " log tells of; put the newest copy there"
            )
        annals.erasure_completion.complete_unfinished(utc_now())
    if is_restored or lost_runs:
        annals.projector().start_over()
    for run in lost_runs:
        annals.retention.repeat(run)
    ledger.take_place()
    ledger.keep()
