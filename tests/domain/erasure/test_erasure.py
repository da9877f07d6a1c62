"""Where a subject was named by value, for an erasure's report."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.erasure.erasure import NamedIn, merge_mentions

SEGMENT, VIEW = UUID(int=1), UUID(int=2)


def test_mentions_of_one_definition_are_one_with_all_versions_and_places() -> None:
    assert merge_mentions(
        [
            NamedIn("segment", SEGMENT, [2], ["/condition/test/value"]),
            NamedIn("saved_view", VIEW, [], ["/filter/test/value"]),
            NamedIn("segment", SEGMENT, [1, 2], ["/name"]),
        ]
    ) == [
        NamedIn("saved_view", VIEW, [], ["/filter/test/value"]),
        NamedIn("segment", SEGMENT, [1, 2], ["/condition/test/value", "/name"]),
    ]


mentions = st.lists(
    st.builds(
        NamedIn,
        st.sampled_from(["segment", "saved_view"]),
        st.sampled_from([SEGMENT, VIEW]),
        st.lists(st.integers(1, 3)),
        st.lists(st.sampled_from(["/name", "/filter"])),
    )
)


@given(mentions)
def test_merging_loses_nothing_and_merging_again_changes_nothing(named: list[NamedIn]) -> None:
    merged = merge_mentions(named)
    assert merge_mentions(merged) == merged
    for mention in named:
        [whole] = [each for each in merged if (each.what, each.id) == (mention.what, mention.id)]
        assert set(mention.versions) <= set(whole.versions)
        assert set(mention.places) <= set(whole.places)
