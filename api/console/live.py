"""Streams that tell a page when to reload: the API's own, with the key of the session."""

from __future__ import annotations

from litestar import asgi
from litestar.types import Receive, Scope, Send

from api.console.calls import forward, segment_of_path
from api.console.sessions import AnyRequest, Session


async def _changes(kind: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Streams the changes of the subject whose `id` the address has, else of all."""
    request: AnyRequest = AnyRequest(scope, receive, send)
    session: Session = request.state.session
    id = request.query_params.get("id")
    path = f"/api/{kind}/changes" if id is None else f"/api/{kind}/{segment_of_path(id)}/changes"
    await forward(request.app, scope, receive, send, path, query=b"", key=session.key)


@asgi("/changes/users", copy_scope=True)
async def changes_of_users(scope: Scope, receive: Receive, send: Send) -> None:
    await _changes("users", scope, receive, send)


@asgi("/changes/accounts", copy_scope=True)
async def changes_of_accounts(scope: Scope, receive: Receive, send: Send) -> None:
    await _changes("accounts", scope, receive, send)
