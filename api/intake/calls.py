"""Calls of Segment's protocol into commands, forgiving what their senders do.

What can be mended is mended, what cannot is left out by name. Only a message without a usable
identity, name or time is refused. So is one without a user, but for an event of an account alone,
in which `anonymousId` and `context.groupId` both hold the account's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from api.intake import clock
from api.intake.segment import Message
from domain.activity import (
    Activity,
    ActivityKind,
    Metadata,
    channel_of,
    checked_metadata,
    event_name,
    page_name,
)
from domain.commands import Alias, Change, Command, Join, Request, Track
from domain.errors import InvalidInput
from domain.identity import Identity, Scheme, SubjectKind, identity, json_type, sent_text
from domain.properties import MAX_NAME_CHARS, RefusedValue, name_problem
from domain.shapes import flat_metadata, flat_traits
from domain.texts import trimmed

MAX_MESSAGE_ID_CHARS = 256
CALLS = ("identify", "group", "track", "page", "screen", "alias")
NOBODY = "the message names nobody: send a userId, or an email in the traits", "/userId"
NO_ACCOUNT = "the message names no account: send a groupId, or a domain in the traits", "/groupId"
NO_URL = "the page has no URL: send it, or a name to have it counted as a screen", "/properties/url"
"""Each why a message is refused, and its place."""

_CAMPAIGN_KEYS = ("name", "source", "medium", "term", "content")


def message_id(sent: object) -> str | None:
    """A `messageId`, printable and not too long; None: it is none."""
    text = sent if isinstance(sent, str) else sent_text(sent)
    is_one = text is not None and 0 < len(text) <= MAX_MESSAGE_ID_CHARS and text.isprintable()
    return text if is_one else None


def request(message: Message, received_at: datetime, sent_at: datetime | None) -> Request:
    """The command that a message asks for, and what is left out of it.

    Args:
        sent_at: of the batch, where the message says none of its own.

    Raises:
        InvalidInput: with the place inside the message.
    """
    id = message_id(message.messageId)
    if id is None and message.messageId is not None:
        raise InvalidInput(
            f"the messageId must be a printable text of 1 to {MAX_MESSAGE_ID_CHARS} characters",
            pointer="/messageId",
        )
    if message.sentAt is not None:
        sent_at = clock.instant(message.sentAt) or sent_at
    is_timed = message.timestamp is not None and message.timestamp != ""
    timestamp = message.timestamp if is_timed else message.originalTimestamp
    at = clock.occurred_at(timestamp, received_at, sent_at)
    reading = _Reading(message)
    match message.type:
        case "identify":
            command: Command = reading.identify(at)
        case "group":
            command = reading.group(at)
        case "track" | "page" | "screen":
            command = reading.track(at, clock.skew(received_at, sent_at))
        case "alias":
            user = identity(Scheme.USER_ID, message.userId, pointer="/userId")
            previous = identity(Scheme.USER_ID, message.previousId, pointer="/previousId")
            command = Alias((user,), (previous,), at)
        case None:
            raise InvalidInput(f"the type is missing: one of {', '.join(CALLS)}", pointer="/type")
        case _:
            raise InvalidInput(
                f"unknown type of call: use one of {', '.join(CALLS)}", pointer="/type"
            )
    return Request(command, id, tuple(reading.refused))


class _Reading:
    """A message that is being read.

    Attributes:
        refused: what is left out: a property by its name, all else by its path in the message.
    """

    def __init__(self, message: Message) -> None:
        self.message = message
        self.refused: list[RefusedValue] = []
        self._unusable: list[tuple[str, InvalidInput]] = []
        self._context = self._object(message.context, "context")

    def identify(self, at: datetime) -> Change:
        traits = self._traits(self.message.traits, "traits")
        users = self._user_id()
        email, traits = self._known_by(traits, Scheme.EMAIL, "email")
        users = self._usable(users + email, NOBODY)
        return Change(SubjectKind.USER, users, traits, at)

    def group(self, at: datetime) -> Command:
        traits = self._traits(self.message.traits, "traits")
        accounts = self._identity(Scheme.ACCOUNT_ID, self.message.groupId, "groupId")
        domain, traits = self._known_by(traits, Scheme.DOMAIN, "domain")
        accounts = self._usable(accounts + domain, NO_ACCOUNT)
        users = self._user_id() + self._email_of_context()
        self._leave_out_unusable()
        if not users:
            return Change(SubjectKind.ACCOUNT, accounts, traits, at)
        relationship = self._traits(self._context.get("relationship"), "context.relationship")
        return Join(users, accounts, traits, relationship, at)

    def track(self, at: datetime, skew: float | None) -> Track:
        activities = self._activities(skew)
        account = self._context.get("groupId")
        accounts = self._identity(Scheme.ACCOUNT_ID, account, "context.groupId")
        if accounts and self.message.userId is None and self._is_anonymous(accounts[0]):
            return Track((), accounts, activities, at)
        users = self._user_id() + self._email_of_context()
        return Track(self._usable(users, NOBODY), accounts, activities, at)

    def _activities(self, skew: float | None) -> tuple[Activity, ...]:
        message = self.message
        properties = self._object(message.properties, "properties")
        metadata: Metadata = {}
        if properties:
            properties, refused = flat_metadata(properties)
            metadata, also_refused = checked_metadata(properties)
            self.refused += refused + also_refused
        page = self._object(self._context.get("page"), "context.page")
        url = properties.get("url") or page.get("url")
        referrer = page.get("referrer")
        match message.type:
            case "track":
                kind, name = ActivityKind.EVENT, event_name(message.event, pointer="/event")
            case "page" if not self._names_a_screen():
                kind, (name, url) = ActivityKind.PAGE, _page(properties, page)
                metadata["url"] = metadata.get("url") or url
                referrer = properties.get("referrer") if referrer is None else referrer
            case _:
                kind, name = ActivityKind.SCREEN, event_name(message.name, pointer="/name")
        touches = self._touches(referrer, url if isinstance(url, str) else None)
        return (Activity(kind, name, metadata, skew), *touches)

    def _names_a_screen(self) -> bool:
        """Whether a page has a name, and so is a screen."""
        name = self.message.name
        text = sent_text(name)
        if text is None and name:
            self._leave_out("name", f"expected a name, got {json_type(name)}")
        return text is not None and trimmed(text) != ""

    def _touches(self, referrer: object, url: str | None) -> list[Activity]:
        """The channel and the campaign of a visit, if the message names them."""
        if referrer is not None and not isinstance(referrer, str):
            self._leave_out("context.page.referrer", f"expected a text, got {json_type(referrer)}")
            referrer = None
        if referrer is None and "campaign" not in self._context:
            return []  # nearly always
        campaign = self._campaign()
        channel = channel_of(campaign, referrer, url)
        if channel is None:
            return []
        metadata: Metadata = {key: value for key, value in campaign.items() if key != "name"}
        touches = [Activity(ActivityKind.CHANNEL, channel, metadata)]
        if "name" in campaign:
            touches.append(Activity(ActivityKind.CAMPAIGN, campaign["name"], dict(metadata)))
        return touches

    def _campaign(self) -> dict[str, str]:
        sent = self._object(self._context.get("campaign"), "context.campaign")
        campaign: dict[str, str] = {}
        for key in _CAMPAIGN_KEYS:
            value = sent.get(key)
            text = sent_text(value)
            if text is None:
                if value:
                    reason = f"expected a text, got {json_type(value)}"
                    self._leave_out(f"context.campaign.{key}", reason)
                continue
            text = trimmed(text)
            problem = None if text.isdecimal() else name_problem(text)  # advertisers number them
            if text and problem is None and len(text) <= MAX_NAME_CHARS:
                campaign[key] = text
            elif text:
                self._leave_out(f"context.campaign.{key}", problem or "the number is too long")
        return campaign

    def _user_id(self) -> tuple[Identity, ...]:
        return self._identity(Scheme.USER_ID, self.message.userId, "userId")

    def _email_of_context(self) -> tuple[Identity, ...]:
        if "traits" not in self._context:
            return ()
        traits = self._object(self._context["traits"], "context.traits")
        return self._identity(Scheme.EMAIL, traits.get("email"), "context.traits.email")

    def _known_by(
        self, traits: dict[str, object], scheme: Scheme, name: str
    ) -> tuple[tuple[Identity, ...], dict[str, object]]:
        """Returns the identity in the traits, and the traits with it as it is compared; without it
        where it cannot be used."""
        sent = traits.get(name)
        if sent is None:
            return (), traits
        identities = self._identity(scheme, sent, f"traits.{name}")
        if not identities:
            return (), {other: value for other, value in traits.items() if other != name}
        value = identities[0].value
        return identities, traits if value == sent else traits | {name: value}

    def _identity(self, scheme: Scheme, value: object, path: str) -> tuple[Identity, ...]:
        """The identity that a value is; none, where it is null or cannot be used."""
        if value is None:
            return ()
        try:
            return (identity(scheme, value),)
        except InvalidInput as error:
            error.pointer = "/" + path.replace(".", "/")
            self._unusable.append((path.removeprefix("traits."), error))
            return ()

    def _usable(
        self, identities: tuple[Identity, ...], missing: tuple[str, str]
    ) -> tuple[Identity, ...]:
        """The identities, if there is one; those that cannot be used are left out.

        Raises:
            InvalidInput: there is none.
        """
        if not identities:
            raise self._unusable[0][1] if self._unusable else _refusal(missing)
        if self._unusable:
            self._leave_out_unusable()
        return identities

    def _leave_out_unusable(self) -> None:
        for path, error in self._unusable:
            self._leave_out(path, error.detail)
        self._unusable.clear()

    def _is_anonymous(self, account: Identity) -> bool:
        """Whether the message is about an account alone, whose id it says twice."""
        anonymous = sent_text(self.message.anonymousId)
        return anonymous is not None and trimmed(anonymous) == account.value

    def _traits(self, value: object, path: str) -> dict[str, object]:
        traits = self._object(value, path)
        if traits:
            traits, refused = flat_traits(traits)
            self.refused += refused
        return traits

    def _object(self, value: object, path: str) -> dict[str, object]:
        """An object. Nothing is in a value of another shape, nor in `[]`, which PHP's clients
        send for an empty object."""
        if isinstance(value, dict):
            return value
        if value is not None and value != []:
            self._leave_out(path, f"expected an object, got {json_type(value)}")
        return {}

    def _leave_out(self, name: str, reason: str) -> None:
        self.refused.append(RefusedValue(name, reason))


def _page(properties: Mapping[str, object], page: Mapping[str, object]) -> tuple[str, str]:
    """The name and the URL of a page.

    Raises:
        InvalidInput: neither place has a URL that names a page.
    """
    problem = None
    for url, pointer in (
        (properties.get("url"), "/properties/url"),
        (page.get("url"), "/context/page/url"),
    ):
        if url is None or url == "":
            continue
        try:
            name = page_name(url, pointer=pointer)
        except InvalidInput as error:
            problem = problem or error
        else:
            return name, str(url)
    raise problem or _refusal(NO_URL)


def _refusal(missing: tuple[str, str]) -> InvalidInput:
    detail, pointer = missing
    return InvalidInput(detail, pointer=pointer)
