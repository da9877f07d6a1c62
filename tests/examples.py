"""How many examples a law tries."""

from __future__ import annotations

from hypothesis import settings

USUAL = 30


def examples(usual: int) -> int:
    """For a law that tries `usual` examples where others try 30: as many times more of them as
    ANNALS_TEST_EXAMPLES asks for."""
    return max(usual * settings().max_examples // USUAL, 1)
