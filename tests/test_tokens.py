"""Tokens of the API: whom the Authorization header lets do what."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.settings import Auth, Scope, Token
from shim.answers import HttpError
from shim.tokens import MAX_HEADER, Tokens, require

AUTH = Auth(
    api_token="everything",
    token=(
        Token("ci", "publish-it", scopes=("publish", "cache"), owner="build"),
        Token("schlüssel", "Zauber ✨ wort", scopes=("instances",)),
        Token("boss", "commands", scopes=("admin",)),
        Token("forgotten", "", scopes=("admin",)),
    ),
)
TOKENS = Tokens(AUTH)
SCOPES: tuple[Scope, ...] = ("publish", "cache", "instances", "admin")


@pytest.mark.parametrize(
    "header",
    [
        "token publish-it",
        "Token publish-it",
        "TOKEN publish-it",
        "Bearer publish-it",
        "bearer publish-it",
        "token   publish-it",
        "token \t publish-it",
        " token publish-it ",
    ],
)
def test_both_words_are_understood_in_any_case_and_with_any_blanks(header: str) -> None:
    grant = TOKENS.grant(header)
    assert grant
    assert (grant.name, grant.owner) == ("ci", "build")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "token",
        "token ",
        "publish-it",
        "tokenpublish-it",
        "token publish-i",
        "token publish-itt",
        "token Publish-It",
        "token publish-it, token publish-it",
        "token token publish-it",
        "Basic publish-it",
        "Basic dG9rZW46cHVibGlzaC1pdA==",
        'token "publish-it"',
        "token publish-it\0",
        "token ci",
        "token \u2728",
        "token publish\u2028it",
    ],
)
def test_nothing_else_is_a_token(header: str | None) -> None:
    assert TOKENS.grant(header) is None


def test_a_token_without_a_value_lets_nobody_in() -> None:
    tokens = Tokens(Auth(token=(Token("forgotten", "", scopes=("admin",)),)))
    assert not tokens.open
    for header in ("token", "token ", "token  ", "Bearer \t", "", None):
        assert tokens.grant(header) is None
        with pytest.raises(HttpError):
            require(tokens, header, "publish")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_letters_outside_ascii_work_as_utf_8(encoding: str) -> None:
    sent = "Zauber ✨ wort".encode(encoding).decode("latin-1")
    grant = TOKENS.grant(f"token {sent}")
    assert (grant.name if grant else None) == ("schlüssel" if encoding == "utf-8" else None)


def test_letters_of_latin_1_work_as_either() -> None:
    tokens = Tokens(Auth(api_token="schlüssel"))
    assert tokens.grant("token schlüssel")
    assert tokens.grant(f"token {'schlüssel'.encode().decode('latin-1')}")
    assert not tokens.grant("token schl?ssel")


def test_a_long_header_is_not_looked_at() -> None:
    long = "x" * (MAX_HEADER - len("token "))
    assert Tokens(Auth(api_token=long)).grant(f"token {long}")
    assert not Tokens(Auth(api_token=f"{long}x")).grant(f"token {long}x")


@given(st.text(max_size=80))
def test_no_text_passes_for_a_token(text: str) -> None:
    values = {"everything", "commands", "publish-it"}
    for header in (text, f"token {text}", f"Bearer {text}"):
        assert TOKENS.grant(header) is None or any(value in text for value in values)


def test_scopes_are_kept_apart_and_admin_has_them_all() -> None:
    may = {
        value: {scope for scope in SCOPES if (grant := TOKENS.grant(f"token {value}")) and grant.may(scope)}
        for value in ("everything", "publish-it", "commands")
    }
    assert may == {"everything": {*SCOPES}, "publish-it": {"publish", "cache"}, "commands": {*SCOPES}}


def test_tokens_without_an_owner_act_for_themselves() -> None:
    owners = {value: TOKENS.grant(f"token {value}") for value in ("everything", "commands")}
    assert {value: grant and grant.owner for value, grant in owners.items()} == {
        "everything": "admin",
        "commands": "boss",
    }


def test_without_any_token_everybody_may_do_everything() -> None:
    tokens = Tokens(Auth())
    assert tokens.open
    for header in (None, "", "token whatever"):
        assert all(require(tokens, header, scope).may(scope) for scope in SCOPES)
    assert not TOKENS.open


@pytest.mark.parametrize("header", [None, "", "token wrong", "Basic eDp5"])
def test_without_a_token_of_ours_the_answer_is_401_and_says_how(header: str | None) -> None:
    with pytest.raises(HttpError) as refused:
        require(TOKENS, header, "publish")
    assert refused.value.status == 401
    assert refused.value.message == "Authentication required. Please provide a valid auth token."
    assert refused.value.headers == [("WWW-Authenticate", 'Bearer realm="nbfolio"')]


def test_a_token_without_the_scope_is_403_and_says_which() -> None:
    assert require(TOKENS, "token publish-it", "cache").name == "ci"
    with pytest.raises(HttpError, match="scope instances") as refused:
        require(TOKENS, "token publish-it", "instances")
    assert refused.value.status == 403


@pytest.mark.parametrize("value", ["everything", "publish-it", "commands", "wrong"])
def test_every_request_costs_the_same_comparisons(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return original(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    TOKENS.grant(f"token {value}")
    assert compared == [(32, 32)] * 8  # four tokens, two encodings
