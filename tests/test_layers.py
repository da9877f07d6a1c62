"""How the rooms of a layer hang together. The contracts in `pyproject.toml` hold their order, this
file the number of arrows. A room is a file or a folder directly below a layer. An arrow leads from
a room to another that it imports from, once for each pair.
"""

from __future__ import annotations

import grimp
import pytest

LAYERS = ("domain", "projections", "infra", "api")

BEFORE = {"projections": 173, "infra": 198}
"""The arrows before the layers were parted into folders, when each file was a room (cc8fac2)."""


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[tuple[str, str]]]:
    graph = grimp.build_graph(*LAYERS, cache_dir=None)
    found: dict[str, set[tuple[str, str]]] = {layer: set() for layer in LAYERS}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            layer, *below = module.split(".")
            other, *there = imported.split(".")
            if layer == other and below and there and below[0] != there[0]:
                found[layer].add((below[0], there[0]))
    return found


@pytest.mark.parametrize("layer", BEFORE)
def test_a_layer_has_a_third_of_the_arrows_that_it_had(
    arrows: dict[str, set[tuple[str, str]]], layer: str
) -> None:
    assert 0 < len(arrows[layer]) <= BEFORE[layer] / 3, sorted(arrows[layer])


def test_no_room_comes_back_to_itself(arrows: dict[str, set[tuple[str, str]]]) -> None:
    for layer in LAYERS:
        left = set(arrows[layer])
        while ends := {there for _, there in left} - {here for here, _ in left}:
            left = {arrow for arrow in left if arrow[1] not in ends}
        assert not left, f"{layer}: {sorted(left)}"
