"""Bodies are decoded as the types that the document says: a number is no text and no boolean."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from litestar import Request

from domain.errors import InvalidInput

_AT = re.compile(r"^(?P<reason>.*) - at `(?:key in )?\$(?P<path>.*)`$", re.DOTALL)
_STEPS = re.compile(r"[^.\[\]]+")


class TypedRequest(Request[Any, Any, Any]):
    """The framework converts parameters, which are texts, and would convert bodies likewise: `0`
    would be taken for `false`, and `"5"` for 5."""

    async def json(self) -> Any:
        """The body, of the type that its route takes.

        Raises:
            InvalidInput: it is not JSON, or of another type; says where.
        """
        field = self.route_handler.parsed_data_field
        if field is None:
            return await super().json()
        try:
            return msgspec.json.decode(await self.body(), type=field.annotation)
        except msgspec.ValidationError as error:
            match = _AT.match(str(error))
            if match is None:
                raise InvalidInput(f"the body: {error}") from None
            pointer, reason = match["path"].lstrip("."), match["reason"]
            pointer = "".join(f"/{step}" for step in _STEPS.findall(pointer))
            raise InvalidInput(f"{pointer}: {reason}", pointer=pointer) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the body is not JSON: {error}") from None
