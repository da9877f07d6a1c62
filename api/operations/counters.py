"""Counters of metadata: what is counted, for whom, and how far."""

from __future__ import annotations

from litestar import Controller, get
from litestar.datastructures import State

from api.http.auth import READERS, opens
from api.http.problems import answers
from infra.bootstrap import Annals
from projections.queries.counter_list import CounterList, list_counters


class CountersController(Controller):
    path = "/api/counters"
    tags = ("operations",)
    guards = (opens(*READERS),)

    @get(
        sync_to_thread=True,
        summary="What is counted of metadata, who needs it, and how many counters there may be",
        responses=answers(401, 403, 503),
    )
    def list(self, state: State) -> CounterList:
        annals: Annals = state.annals
        needed = annals.counter_owners.needed()
        with annals.queries.connect() as conn:
            return list_counters(conn, needed)
