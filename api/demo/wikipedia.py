"""Edits of Wikipedia as users' events: a real day of many users, robots and wikis (accounts).

Source: `wikipedia-edits.ndjson.gz`, the sample that ships with Apache Druid's tutorial. A message
id is made of the line's number, so that loading the file twice doubles nothing.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from api.demo.messages import Message, without_nulls

EVENT = "page edited"


class Edit(msgspec.Struct, frozen=True, rename="camel"):
    """A line of the file: the fields in use."""

    time: str
    channel: str
    user: str
    page: str
    namespace: str
    added: int
    deleted: int
    delta: int
    is_robot: bool
    is_anonymous: bool
    is_minor: bool
    is_new: bool
    is_unpatrolled: bool
    comment: str | None = None
    country_name: str | None = None
    city_name: str | None = None
    region_name: str | None = None


_decoder = msgspec.json.Decoder(Edit)


def messages(path: Path) -> Iterator[Message]:
    """In the file's order: new facts about the user and its wiki, then the edit itself."""
    traits_sent: dict[str, dict[str, object]] = {}
    members: set[tuple[str, str]] = set()
    wikis: set[str] = set()
    with gzip.open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            edit = _decoder.decode(line)
            traits = _traits(edit)
            if traits_sent.get(edit.user) != traits:
                traits_sent[edit.user] = traits
                yield _message("identify", number, edit) | {"traits": traits}
            if (edit.user, edit.channel) not in members:
                members.add((edit.user, edit.channel))
                yield _membership(number, edit, is_new_wiki=edit.channel not in wikis)
                wikis.add(edit.channel)
            yield _track(number, edit)


def _message(call: str, number: int, edit: Edit) -> Message:
    return {
        "type": call,
        "messageId": f"wikipedia-{number}-{call}",
        "timestamp": edit.time,
        "userId": edit.user,
    }


def _traits(edit: Edit) -> dict[str, object]:
    return without_nulls(
        {
            "name": edit.user,
            "robot": edit.is_robot,
            "anonymous": edit.is_anonymous,
            "country": edit.country_name,
            "city": edit.city_name,
            "region": edit.region_name,
        }
    )


def _membership(number: int, edit: Edit, *, is_new_wiki: bool) -> Message:
    message = _message("group", number, edit) | {"groupId": edit.channel}
    if is_new_wiki:
        message["traits"] = {"name": edit.channel.removeprefix("#")}
    return message


def _track(number: int, edit: Edit) -> Message:
    properties = without_nulls(
        {
            "page": edit.page,
            "namespace": edit.namespace,
            "added": edit.added,
            "deleted": edit.deleted,
            "delta": edit.delta,
            "comment": edit.comment,
            "minor": edit.is_minor,
            "new": edit.is_new,
            "robot": edit.is_robot,
            "unpatrolled": edit.is_unpatrolled,
        }
    )
    return _message("track", number, edit) | {
        "event": EVENT,
        "properties": properties,
        "context": {"groupId": edit.channel},
    }
