"""Rows for the log's tests: any bytes do, for the log does not look into what is sealed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from hypothesis import strategies as st

from domain.events.recorded import SealedEvent
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectId

AT = datetime(2026, 5, 13, 12, 0, 0, 123456, tzinfo=UTC)
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def rows() -> st.SearchStrategy[SealedEvent]:
    """Any row that the log takes."""
    return st.builds(
        SealedEvent,
        stream=st.uuids(version=4),
        version=st.none() | st.integers(1, 2**63 - 1),
        event_id=st.uuids(version=4),
        account=st.none() | st.uuids(version=4),
        topic=st.sampled_from(sorted(PAYLOAD_OF_TOPIC)) | _TEXTS,
        schema_version=st.integers(1, 2**15 - 1),
        occurred_at=st.datetimes(timezones=st.just(UTC)),
        state=st.binary(max_size=200),
        account_state=st.none() | st.binary(max_size=60),
    )


def row(
    stream: uuid.UUID | None = None,
    version: int | None = None,
    *,
    topic: str = "user.event_tracked",
    state: bytes = b"sealed",
) -> SealedEvent:
    return SealedEvent(
        stream=SubjectId(stream or uuid.uuid4()),
        version=version,
        event_id=uuid.uuid4(),
        account=None,
        topic=topic,
        schema_version=1,
        occurred_at=AT,
        state=state,
        account_state=None,
    )
