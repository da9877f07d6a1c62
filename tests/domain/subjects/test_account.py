"""An account: known by account id or domain, with properties of its own, and no members."""

from __future__ import annotations

from domain.events.payloads import Absorbed, MergedInto, PropertiesChanged, Registered
from domain.identity import SubjectKind
from domain.properties import PropertyWrite
from tests.commands import AT, names
from tests.domain.given import acme, beta, given


def test_an_account_is_known_by_its_id_and_by_its_domain() -> None:
    known = given(acme(Registered(names("a1 example.com")))).account(acme)
    assert known.kind is SubjectKind.ACCOUNT
    assert known.identities == names("a1 example.com")
    assert known.register(names("EXAMPLE.com")) == []


def test_its_properties_are_written_as_those_of_users_are() -> None:
    known = given(acme(Registered(names("a1"))), acme(PropertiesChanged({"mrr": 5}))).account(acme)
    assert known.change_properties(PropertyWrite({"mrr": 7}, (), ()), AT) == [
        PropertiesChanged({"mrr": 7}, before={"mrr": 5})
    ]


def test_a_merged_account_lives_on_in_its_survivor_with_all_that_was_merged_into_it() -> None:
    known = given(
        acme(Registered(names("a1"))),
        beta(Registered(names("example.com"))),
        beta(PropertiesChanged({"mrr": 5})),
    )
    survivor, loser = known.account(acme), known.account(beta)
    absorbed = Absorbed((beta.id,), names("example.com"), {"mrr": 5}, said_at={"mrr": AT})
    assert survivor.absorb(loser) == [absorbed]
    after = given(acme(Registered(names("a1"))), acme(absorbed)).account(acme)
    assert (after.absorbed, after.properties) == ((beta.id,), {"mrr": 5})
    gone = given(beta(Registered(names("example.com"))), beta(MergedInto(acme.id))).account(beta)
    assert gone.merged_into == acme.id
