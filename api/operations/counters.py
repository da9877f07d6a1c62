"""Counters of metadata, with their users and their progress."""

from __future__ import annotations

import sqlalchemy as sa
from litestar import Controller, get

from api.http.auth import READERS, opens
from api.http.dependencies import Part
from api.http.problems import answers
from infra.write.counter_owners import CounterOwners
from projections.queries.counter_list import CounterList, list_counters


class CountersController(Controller):
    path = "/api/counters"
    tags = ("operations",)
    guards = (opens(*READERS),)

    @get(
        sync_to_thread=True,
        summary="Counters of metadata, with their users and limits",
        responses=answers(401, 403, 503),
    )
    def list(self, counter_owners: Part[CounterOwners], queries: Part[sa.Engine]) -> CounterList:
        needed = counter_owners.needed()
        with queries.connect() as conn:
            return list_counters(conn, needed)
