"""Headers of answers, for the OpenAPI document: when to ask again, and what is left of a rate."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def _header(description: str, type: str, *, required: bool) -> Document:
    return {"description": description, "required": required, "schema": {"type": type}}


RETRY_AFTER = _header("after how many seconds to ask again", "integer", required=True)
AUTHENTICATE = _header("how an API key is sent", "string", required=True)
OF_STATUS: dict[str, Document] = {
    "401": {"WWW-Authenticate": AUTHENTICATE},
    "429": {"Retry-After": RETRY_AFTER},
    "503": {"Retry-After": RETRY_AFTER},
}
OF_KEYS: Document = {
    "RateLimit-Policy": _header("the rates of the API key", "string", required=False),
    "RateLimit": _header("what is left of them", "string", required=False),
}
"""Headers of all answers to a request with a known API key."""


def tell(document: Document) -> None:
    """Puts the headers into a document."""
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            of_keys = OF_KEYS if "401" in answers else {}
            for status, answer in answers.items():
                headers = {**answer.get("headers", {}), **OF_STATUS.get(status, {}), **of_keys}
                if headers:
                    answer["headers"] = headers
