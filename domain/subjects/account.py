"""Account: a subject that users are members of."""

from __future__ import annotations

from typing import ClassVar

from domain.identity import SubjectKind
from domain.subjects.subject import Subject


class Account(Subject, frozen=True):
    """A group of users, such as a company. Identified by account id, domain or both."""

    kind: ClassVar[SubjectKind] = SubjectKind.ACCOUNT
