"""What makes two outside names one subject."""

from __future__ import annotations

import math
import unicodedata
import uuid
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.identity import (
    LOG_PARTITIONS,
    MAX_IDENTITY_CHARS,
    Identity,
    Known,
    Scheme,
    SubjectId,
    identity,
    log_partition,
    resolve,
)
from domain.texts import trimmed

user_ids = st.sampled_from(["u1", "U1", "u2", "u3"]).map(
    lambda name: Identity(Scheme.USER_ID, name)
)
emails = st.sampled_from(["a@x.be", "A@X.BE", "b@x.be", "straße@x.de", "STRASSE@X.DE"]).map(
    lambda email: Identity(Scheme.EMAIL, email)
)
sightings = st.lists(st.one_of(user_ids, emails), min_size=1, max_size=3).map(tuple)
histories = st.lists(sightings, max_size=6)


def new_id() -> SubjectId:
    return SubjectId(uuid.uuid4())


def partition_of(history: list[tuple[Identity, ...]]) -> frozenset[frozenset[tuple[str, str]]]:
    """The outside names, grouped by the subject that they name in the end."""
    known: Known = {}
    for identities in history:
        resolve(identities, known, new_id)
    groups: dict[SubjectId, set[tuple[str, str]]] = {}
    for key, subject in known.items():
        groups.setdefault(subject, set()).add(key)
    return frozenset(frozenset(group) for group in groups.values())


@given(st.text(min_size=1, max_size=20))
def test_ids_match_in_nfc_and_in_their_case(text: str) -> None:
    for scheme in (Scheme.USER_ID, Scheme.ACCOUNT_ID):
        matching = Identity(scheme, text).matching
        assert matching == unicodedata.normalize("NFC", text)
        assert matching == Identity(scheme, unicodedata.normalize("NFD", text)).matching


@given(st.text(alphabet="abcéİÅẞﬁ", min_size=1, max_size=20))
def test_email_and_domain_match_whatever_their_case_and_composition(text: str) -> None:
    for scheme in (Scheme.EMAIL, Scheme.DOMAIN):
        matching = Identity(scheme, text).matching
        assert Identity(scheme, text.lower()).matching == matching
        assert Identity(scheme, unicodedata.normalize("NFD", text)).matching == matching


@given(st.text(max_size=20))
def test_what_matches_matches_itself(text: str) -> None:
    for scheme in Scheme:
        matching = Identity(scheme, text).matching
        assert Identity(scheme, matching).matching == matching


@given(st.text(st.characters(max_codepoint=127), max_size=20))
def test_an_identity_in_ascii_matches_as_it_ever_did(text: str) -> None:
    for scheme in Scheme:
        assert Identity(scheme, text).matching == Identity(scheme, text).former_matching


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        ("STRAẞE@x.de", "straße@x.de", True),
        ("straße@x.de", "strasse@x.de", False),
        ("o\ufb03ce@x.de", "office@x.de", False),
        ("ZOE\u0308@x.be", "zoë@x.be", True),
        ("faß.de", "fass.de", False),
    ],
)
def test_letters_that_only_look_alike_are_two(one: str, other: str, is_one: bool) -> None:
    for scheme in (Scheme.EMAIL, Scheme.DOMAIN):
        assert (Identity(scheme, one).matching == Identity(scheme, other).matching) == is_one


@given(histories, sightings)
def test_the_same_identities_give_the_same_subject(
    history: list[tuple[Identity, ...]], identities: tuple[Identity, ...]
) -> None:
    known: Known = {}
    for seen in history:
        resolve(seen, known, new_id)
    first = resolve(identities, known, new_id)
    again = resolve(identities, known, new_id)
    assert again.subject == first.subject
    assert not again.is_new
    assert (again.claims, again.merges) == ((), ())
    for one in identities:
        assert resolve([one], known, new_id).subject == first.subject


@given(st.lists(sightings, max_size=4))
def test_who_is_who_does_not_depend_on_the_order_in_which_it_was_learnt(
    history: list[tuple[Identity, ...]],
) -> None:
    assert len({partition_of(list(order)) for order in permutations(history)}) == 1


@given(histories, sightings)
def test_the_first_known_identity_decides_and_the_others_merge_into_its_subject(
    history: list[tuple[Identity, ...]], identities: tuple[Identity, ...]
) -> None:
    known: Known = {}
    for seen in history:
        resolve(seen, known, new_id)
    before = dict(known)
    resolution = resolve(identities, known, new_id)
    named = [
        before[one.scheme, one.matching]
        for one in identities
        if (one.scheme, one.matching) in before
    ]
    assert resolution.is_new == (not named)
    if named:
        assert resolution.subject == named[0]
    assert [merge.loser for merge in resolution.merges] == list(
        dict.fromkeys(one for one in named if one != named[0])
    )
    assert {merge.survivor for merge in resolution.merges} <= {resolution.subject}
    assert not {merge.loser for merge in resolution.merges} & set(known.values())
    claimed = [(one.scheme, one.matching) for one in resolution.claims]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == {(one.scheme, one.matching) for one in identities} - before.keys()


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        math.nan,
        math.inf,
        1e300,
        [],
        {},
        "",
        " ",
        "\ufeff",
        "a\nb",
        "a\0b",
        "a\u202eb",
    ],
)
def test_what_is_no_outside_name_is_refused(scheme: Scheme, value: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        identity(scheme, value, pointer="/userId")
    assert refusal.value.pointer == "/userId"


@pytest.mark.parametrize(
    ("value", "id"),
    [
        (123, "123"),
        (123.0, "123"),
        ("123", "123"),
        (" 123\t", "123"),
        (-0.0, "0"),
        (-7, "-7"),
        (0, "0"),
        ("007", "007"),
        (175928847299117063, "175928847299117063"),
        (2**70, "1180591620717411303424"),
        (float(2**53), "9007199254740992"),
        ("u\xa01", "u\xa01"),
        ("\u200bZoe\u0308\ufeff", "Zoë"),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_a_whole_number_is_an_id_and_what_surrounds_an_id_is_cut_off(
    value: object, id: str
) -> None:
    for scheme in (Scheme.USER_ID, Scheme.ACCOUNT_ID):
        assert identity(scheme, value) == Identity(scheme, id)


@pytest.mark.parametrize("value", [1.5, 2.0**53 + 2, math.nan])
def test_a_number_that_is_no_id_is_refused_with_the_remedy(value: float) -> None:
    with pytest.raises(InvalidInput, match="send a text"):
        identity(Scheme.USER_ID, value)


@pytest.mark.parametrize("value", ["ada@x.be ", "\n ada@x.be", "\u200bada@x.be\xa0"])
def test_what_surrounds_an_email_or_a_domain_is_cut_off(value: str) -> None:
    assert identity(Scheme.EMAIL, value).value == "ada@x.be"
    assert identity(Scheme.DOMAIN, value.replace("ada@", "")).value == "x.be"


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        (Scheme.EMAIL, "nobody"),
        (Scheme.EMAIL, "@x.be"),
        (Scheme.EMAIL, "a@"),
        (Scheme.EMAIL, "a b@x.be"),
        (Scheme.EMAIL, "a\xa0b@x.be"),
        (Scheme.EMAIL, 5),
        (Scheme.DOMAIN, 5),
        (Scheme.DOMAIN, "https://x.be"),
        (Scheme.DOMAIN, "a@x.be"),
        (Scheme.DOMAIN, "x be"),
        (Scheme.USER_ID, "u" * (MAX_IDENTITY_CHARS + 1)),
        (Scheme.USER_ID, "half \ud800"),
    ],
)
def test_an_outside_name_has_the_form_of_its_kind(scheme: Scheme, value: object) -> None:
    with pytest.raises(InvalidInput):
        identity(scheme, value)


@given(st.sampled_from(Scheme), st.text(max_size=30))
def test_every_text_is_taken_trimmed_or_refused(scheme: Scheme, text: str) -> None:
    try:
        taken = identity(scheme, text)
    except InvalidInput:
        return
    assert taken == Identity(scheme, trimmed(text))
    text.encode()


@given(st.uuids())
def test_a_subject_has_one_of_256_partitions_by_its_id_alone(id: uuid.UUID) -> None:
    assert 0 <= log_partition(id) < LOG_PARTITIONS
    assert log_partition(uuid.UUID(str(id))) == log_partition(id)


def test_the_partition_of_an_id_never_changes() -> None:
    ids = [uuid.UUID(int=n * 0x1234567890ABCDEF) for n in range(1, 5)]
    assert [log_partition(id) for id in ids] == [105, 111, 106, 4]
