"""Which methods a path takes: OPTIONS says so, HEAD is there wherever GET is."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests.serving import Clients, problem, user

PAGES = ["/console/sign-in", "/console/users", "/schema", "/"]


@pytest.fixture(scope="module")
def paths(standing: Clients) -> dict[str, set[str]]:
    """Each path of the document, with something in place of its parameters, and its methods."""
    document = standing(None).get("/schema/openapi.json").json()["paths"]
    return {
        re.sub(r"\{[^}]*\}", str(uuid.UUID(int=1)), path): {one.upper() for one in methods}
        for path, methods in document.items()
    }


def allowed(answer: Any) -> list[str]:
    return str(answer.headers["allow"]).split(", ")


def test_options_and_refusals_of_a_path_name_all_of_its_methods(
    standing: Clients, paths: dict[str, set[str]]
) -> None:
    for path, methods in paths.items():
        answer = standing(None).request("OPTIONS", path)
        assert (answer.status_code, answer.content) == (204, b""), path
        implied = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
        assert allowed(answer) == sorted(methods | implied), path
        refused = standing(None).request("PATCH", path)
        problem(refused, 405, "method-not-allowed")
        assert allowed(refused) == allowed(answer), path
    assert len(paths) > 50
    for path in PAGES:
        assert {"GET", "HEAD", "OPTIONS"} <= set(allowed(standing(None).request("OPTIONS", path)))
    problem(standing(None).request("OPTIONS", "/api/nothing"), 404)


def test_head_is_answered_as_get_is_without_a_body(
    standing: Clients, paths: dict[str, set[str]]
) -> None:
    standing.send({"type": "identify", "userId": "ada", "traits": {"name": "Ada"}})
    standing.see(user("ada"))
    known = [user("ada", tab) for tab in ("", "/timeline", "/overview")]
    for path in [*(path for path, methods in paths.items() if "GET" in methods), *known, *PAGES]:
        asking = standing("comply" if path.endswith("review") else "admin")
        head = asking.head(path)
        assert head.content == b""
        with asking.stream("GET", path) as got:  # some have no end
            assert head.status_code == got.status_code, path
            assert names(head) == names(got), path
            if path in known:
                assert head.headers["content-length"] == got.headers["content-length"]


def names(answer: Any) -> set[str]:
    """Of the headers, but for those that say how a body is sent."""
    return {*answer.headers} - {"content-length", "transfer-encoding"}


def test_head_is_refused_as_get_is(standing: Clients) -> None:
    assert standing(None).head("/api/users").status_code == 401
    assert standing("write").head("/api/users").status_code == 403
    assert standing("read").head(user("nobody")).status_code == 404
    refused = standing("write").head("/v1/batch")
    assert (refused.status_code, allowed(refused)) == (405, ["OPTIONS", "POST"])
