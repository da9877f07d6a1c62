"""Links to other apps: what a template may be, and the address that comes of it."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.definitions.links import Link, Reached, check, check_properties, reached
from domain.errors import InvalidInput
from domain.identity import SubjectKind

USER, ACCOUNT = SubjectKind.USER, SubjectKind.ACCOUNT


def addresses(url: str, **values: object) -> list[str]:
    link = Link(USER, "CRM", url)
    return [one.url for one in reached([link], USER, values, {})]


@pytest.mark.parametrize(
    "url",
    [
        "https://crm.example/contacts/{external_id}?mail={email}&plan={properties.plan name}",
        "http://localhost:8080/{id}#{name}",
        "mailto:{email}?subject=Hello%20there",
        "mailto:sales@crm.example?subject={name}",
        "https://crm.example",
    ],
)
def test_a_template_is_an_address_of_the_web_or_of_mail(url: str) -> None:
    check(Link(USER, "CRM", url), "/links/0/url")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("javascript:alert({id})", "https://"),
        ("JavaScript:alert(1)", "https://"),
        ("data:text/html,{name}", "https://"),
        ("{properties.url}", "https://"),
        ("//crm.example/{id}", "https://"),
        ("https:crm.example/{id}", "no host"),
        ("https:///{id}", "no host"),
        ("https://crm.example:port/{id}", "no host"),
        ("https://[crm/{id}", "no host"),
        ("https://{properties.host}/", "same for all"),
        ("https://crm.example{id}/", "same for all"),
        ("https://{name}@crm.example/", "same for all"),
        ("https://crm.example@evil.example/", "same for all"),
        ("https://crm.example/{", "ASCII"),
        ("https://crm.example/{{id}}", "ASCII"),
        ("https://crm.example/a b", "ASCII"),
        ("https://crm.example/\n", "ASCII"),
        ("https://crm.example\\@evil.example/", "ASCII"),
        ('https://crm.example/"onclick=', "ASCII"),
        ("https://crm.example/{e-mail}", "did you mean email"),
        ("https://crm.example/{domain}", "unknown placeholder for users"),
        ("https://crm.example/{}", "unknown placeholder"),
        ("mailto:", "recipient"),
        ("", "1 to 2,000"),
        ("https://crm.example/" + "a" * 2_000, "1 to 2,000"),
    ],
)
def test_what_is_none_or_names_what_is_not_is_refused_at_its_place(url: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(Link(USER, "CRM", url), "/links/3/url")
    assert (refused.value.pointer, words in refused.value.detail) == ("/links/3/url", True)


def test_users_have_an_address_and_accounts_a_domain() -> None:
    check(Link(ACCOUNT, "Site", "https://crm.example/{domain}"), "/url")
    with pytest.raises(InvalidInput):
        check(Link(ACCOUNT, "Site", "https://crm.example/{email}"), "/url")


def test_a_property_that_nobody_has_is_refused() -> None:
    link = Link(USER, "CRM", "https://crm.example/{properties.plann}")
    with pytest.raises(InvalidInput) as refused:
        check_properties(link, {"plan", "role"}, "/links/0/url")
    assert "did you mean plan" in refused.value.detail
    check_properties(link, {"plann"}, "/links/0/url")


def test_a_link_names_values_of_any_plain_type_and_only_for_its_kind() -> None:
    links = [
        Link(USER, "CRM", "https://crm.example/{external_id}?p={properties.plan}"),
        Link(ACCOUNT, "Billing", "https://bills.example/{external_id}"),
        Link(USER, "Seats", "https://crm.example/{properties.seats}/{properties.paid}"),
    ]
    attributes, properties = {"external_id": "ada"}, {"plan": "pro", "seats": 3, "paid": True}
    assert reached(links, USER, attributes, properties) == [
        Reached("CRM", "https://crm.example/ada?p=pro"),
        Reached("Seats", "https://crm.example/3/true"),
    ]


@pytest.mark.parametrize("value", [None, "", ".", "..", ["a"], {"a": 1}])
def test_a_link_with_a_value_that_is_missing_or_leads_elsewhere_is_left_out(value: object) -> None:
    assert addresses("https://crm.example/a/{external_id}", external_id=value) == []


def test_mail_goes_to_the_address_as_it_is() -> None:
    assert addresses("mailto:{email}?subject={name}", email="ada+x@acme.example", name="A & B") == [
        "mailto:ada%2Bx@acme.example?subject=A%20%26%20B"
    ]
    assert addresses("mailto:{email}", email="a,b?cc=eve@evil.example@acme.example") == [
        "mailto:a%2Cb%3Fcc%3Deve%40evil.example@acme.example"
    ]


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_value_leaves_its_place_in_the_address(path: str, query: str) -> None:
    found = addresses(
        "https://crm.example/c/{external_id}?m={name}#f", external_id=path, name=query
    )
    if {path, query} & {".", ".."}:
        assert found == []
        return
    parts = urlsplit(found[0])
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "crm.example", "f")
    assert parts.path.count("/") == 2
    assert unquote(parts.path[3:]) == path
    assert parse_qs(parts.query, keep_blank_values=True) == {"m": [query]}
