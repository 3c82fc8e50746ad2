"""The plain form of what hides something, and the way back."""
# ruff: noqa: E501 - in a table of disguises each is one word

import html
import json
import re
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.privacy.plain import Disguised, is_common, plain

UNICODE = st.characters(exclude_categories=["Cs"])
# What may begin or be part of an encoding, so that generated texts run into each other.
CODES = st.sampled_from(["%", "%2", "%40", "%25", "%C3", "%A9", "%FF", "%zz", "\\", "\\\\", "\\u", "\\u00", "\\u0040", "\\x4", "\\n", "&", "&#", "&amp;",
    "&#64;", "&#x40;", "&commat;", ";", "\u200b", "\u0301", "\uff20", "ﬁ", "㍿", "\u3002", "\ufffd", "\u0378", "\U0010ffff", "é", "1", "a", "\r\n", "\ud83d\ude00"])  # fmt: skip
HOSTILE = (
    st.lists(CODES | UNICODE, max_size=30)
    .map("".join)
    .map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
)


def shown(text):
    """Return the plain form of ``text``, itself where there is nothing to decode."""
    found = plain(text)
    return text if found is None else found.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "100 %",
        "50% off",
        "a & b",
        "q&a",
        "%",
        "%4",
        "%g0",
        "&;",
        "&#;",
        "&#x;",
        "é",
        "日本",
        "Καλημέρα",
        "\ufffd",
        "\u0378",
    ],
)
def test_what_hides_nothing_is_its_own_plain_form(text):
    assert plain(text) is None


@pytest.mark.parametrize(
    "disguise",
    [
        "%40", "%2540", "%252540", "%2525252525252540", "%%34%30", "%25%34%30",
        r"\u0040", r"\\u0040", r"\\\\\\\\u0040", r"\x40", r"\u{40}", r"\u{0040}", r"\u005cu0040", r"\u005Cx40",
        "&#64;", "&#064;", "&#64", "&#0000064;", "&#x40;", "&#X40;", "&#x0040;", "&commat;", "&amp;#64;", "&amp;amp;amp;#64;", "&#38;#64;", "&#x26;commat;",
        "\uff20", "﹫", "%EF%BC%A0", "%25EF%25BC%25A0", r"\uff20", "&#xFF20;", "&#65312;",
        "%26%2364%3B", r"\u0025\u0034\u0030", "&#37;40", r"&#92;u0040", r"%5Cu0040", r"%5c%75%30%30%34%30",
        "\u200b@", "@\u200d", "\u00ad@", "\u2060@\ufeff", "@\ufe0f", "@\U000e0041", "\u180b@", "%E2%80%8B@", r"\u200b@",
    ],
)  # fmt: skip
def test_every_encoding_of_a_character_is_decoded(disguise):
    text = f"to bob{disguise}example.com now"
    found = plain(text)
    assert found is not None
    assert found.text == "to bob@example.com now"
    start = found.text.index("bob")
    assert found.origin(start, start + len("bob@example.com")) == (3, len(text) - 4)


@pytest.mark.parametrize(
    "disguise",
    ["&#00000000064;", "&#x0000000040;", r"\u{00000040}", r"\U00000040", "%u0040", "%25u0040", "&#00000000064", "&COMMAT;", "&AMP;#64;", "&#38;#38;#38;#38;#38;#38;#38;#38;#38;#64;", r"\u005cu005cu005cu005cu005cu005cu005cu005cu0040"],
)  # fmt: skip
def test_no_number_of_zeros_or_layers_hides_a_character(disguise):
    assert shown(f"bob{disguise}example.com") == "bob@example.com"


@pytest.mark.parametrize("layers", [1, 3, 6, 10, 25, 60])
@pytest.mark.parametrize("wrap", [
    lambda text: text.replace("&", "&#38;"), lambda text: text.replace("\\", r"\u005c"), lambda text: text.replace("%", "%25"),
    lambda text: text.replace("&", "&amp;"), lambda text: text.replace("\\", "\\\\") if len(text) < 1000 else text,
    lambda text: quote(text, safe="") if len(text) < 1000 else text, lambda text: "".join(f"&#{ord(c)};" for c in text) if len(text) < 1000 else text,
])  # fmt: skip
def test_however_often_an_encoding_is_applied_it_is_undone_or_refused(wrap, layers):
    text = r"bob\u0040example.com bob%40example.com bob&#64;example.com"
    for _ in range(layers):
        text = wrap(text)
    try:
        assert shown(text) == "bob@example.com bob@example.com bob@example.com"
    except Disguised:
        assert layers > 6


def test_one_byte_that_is_no_utf_8_does_not_spoil_those_around_it():
    assert shown("%62%6F%62%EF%BC%A0%65%78%2E%63%6F%6D%FF") == "bob@ex.com\ufffd"
    assert shown("%FF%62%6F%62%EF%BC%A0%65%78%2E%63%6F%6D") == "\ufffdbob@ex.com"
    assert shown("%C3%A9%C3%A9%C3") == "éé\ufffd"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("%ED%A0%80", "\ufffd\ufffd\ufffd"),  # a surrogate in UTF-8
        (r"\ud800", "\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\\ud83d\\ude00", "\U0001f600"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        ("&#xD800;", "\ufffd"),
        ("&#1114112;", "\ufffd"),
        ("&#xFFFFFF;", "\ufffd"),
        ("%F0%9F%98%80", "\U0001f600"),
        (r"a\/b", "a/b"),
        (r"\"x\"", '"x"'),
        (r"a\r\nb", "a\r\nb"),
        ("a%0D%0Ab", "a\r\nb"),
        ("0&#13;&#10;1", "0\r\n1"),
        ("１２３٤٥", "12345"),
        ("1\u20132—3\u22124\u20105", "1-2-3-4-5"),
        ("1\u00a02\u20033", "1 2 3"),
        ("bob\uff20example。com", "bob@example.com"),
        ("ﬁ ㎏ ½", "fi kg 1\u20442"),
        ("e\u0301", "é"),
        ("\u1112\u1161\u11ab", "한"),
    ],
)
def test_the_plain_form_of_this_is_that(text, form):
    assert shown(text) == form


@pytest.mark.parametrize(
    "text",
    [
        "\\",
        "a\\",
        "\\\\",
        "\\u",
        "\\u12",
        "\\u{}",
        "\\u{1234567",
        "\\q",
        "C:\\Windows",
        "%%",
        "%%%",
        "%2",
        "&#",
        "&#x",
        "&#xg;",
        "&unknown;",
        "\ud800",
        "\ud800%41",
        "\u0378",
        "\ufdd0",
        "\u0301",
        "\u0301\u0301",
    ],
)
def test_what_only_looks_like_an_encoding_stays_and_stops_nothing(text):
    kept = text.replace("%41", "A")
    assert shown(text) == kept
    assert shown(f"{text}\u200b%40") == unicodedata.normalize("NFKC", kept) + "@"


def test_the_way_back_takes_in_all_of_what_made_a_part():
    found = plain("x ﬁ%C3%A9\u200b \uff20y")
    assert found is not None
    assert found.text == "x fié @y"
    assert found.origin(3, 4) == (2, 3)  # the i of the ligature is all of it
    assert found.origin(2, 4) == (2, 3)
    assert found.origin(4, 5) == (3, 9)
    assert found.origin(0, len(found.text)) == (0, len("x ﬁ%C3%A9\u200b \uff20y"))


MARKER = "bob.k-7@example.com"


def percent(text, times=1):
    for _ in range(times):
        text = "".join(f"%{byte:02X}" for byte in text.encode())
    return text


DISGUISES = st.sampled_from([
    str, percent, lambda c: percent(c).lower(), lambda c: percent(c).replace("%", "%25"), lambda c: percent(c).replace("%", "%2525"),
    lambda c: f"\\u{ord(c):04x}", lambda c: f"\\\\u{ord(c):04X}", lambda c: f"\\x{ord(c):02x}", lambda c: f"\\u{{{ord(c):x}}}",
    lambda c: f"&#{ord(c)};", lambda c: f"&#x{ord(c):X};", lambda c: f"&amp;#{ord(c)};",
    lambda c: chr(ord(c) + 0xFEE0), lambda c: percent(chr(ord(c) + 0xFEE0)), lambda c: f"\\u{ord(c) + 0xFEE0:04x}",
    lambda c: f"\u200b{c}", lambda c: f"{c}\u2060", lambda c: f"{c}\ufe0f", lambda c: percent(f"\\u{ord(c):04x}"), lambda c: f"\\u0025{ord(c):02X}",
])  # fmt: skip
#: Around the marker, nothing that a disguise could run into.
AROUND = st.text(st.characters(exclude_categories=["Cs", "Cf", "M"], exclude_characters="%\\&;"), max_size=12).map(
    lambda text: f"{text} "
)


@settings(max_examples=examples(300))
@given(AROUND, AROUND, st.lists(DISGUISES, min_size=len(MARKER), max_size=len(MARKER)))
def test_a_disguised_marker_is_found_and_its_way_back_is_its_place(before, after, disguises):
    pieces = [disguise(character) for disguise, character in zip(disguises, MARKER, strict=True)]
    disguised = "".join(pieces)
    after = f" {after}"
    text = before + disguised + after
    found = plain(text)
    if found is None:
        assert MARKER in text
        return
    at = found.text.index(MARKER)
    start, end = found.origin(at, at + len(MARKER))
    # Characters without a shape at either end belong to the marker or to what is beside it.
    assert text[start:end].strip("\u200b\u2060\ufe0f") == disguised.strip("\u200b\u2060\ufe0f")
    assert start >= len(before)
    assert end <= len(text) - len(after)


@settings(max_examples=examples(500))
@given(HOSTILE)
@example("%2525%40")
@example("\\u\\u0040")
@example("&#&#64;")
def test_any_text_has_a_plain_form_that_is_plain_and_a_way_back_within_it(text):
    try:
        found = plain(text)
    except Disguised:
        return  # withheld
    if found is None:
        return
    again = plain(found.text)
    assert again is None, (found.text, again.text)
    last = 0
    for at in range(len(found.text)):
        start, end = found.origin(at, at + 1)
        assert 0 <= start <= end <= len(text)
        assert start >= last or text[start:end]  # pieces of one character may share where they came from
        last = start
    for start in range(0, len(found.text), 3):
        for end in range(start + 1, len(found.text) + 1, 5):
            first, until = found.origin(start, end)
            assert (first, until) == (found.origin(start, start + 1)[0], max(first, found.origin(end - 1, end)[1]))


@settings(max_examples=examples(500))
@given(st.text(UNICODE, max_size=20) | HOSTILE)
def test_the_fast_way_of_common_texts_is_never_another(text):
    if is_common(text) and not set("%\\&") & set(text):
        assert plain(text) is None
    folded = text.translate(dict.fromkeys(map(ord, "%\\&")))
    if plain(folded) is None:
        assert unicodedata.normalize("NFKC", folded) == folded


@pytest.mark.parametrize("code", range(0, 0x30000, 0x1000))
def test_each_character_alone_is_common_or_has_another_form(code):
    for number in range(code, code + 0x1000):
        character = chr(number)
        if character.isascii() or unicodedata.category(character) == "Cs":
            continue
        found = plain(character)
        assert (found is None) == is_common(character), hex(number)
        if found is not None and found.text:
            assert found.origin(0, len(found.text)) == (0, 1)


@given(st.text(UNICODE, max_size=30))
def test_json_html_and_percent_encoding_are_undone_like_the_libraries_do(text):
    # A backspace and a form feed are nothing as they stand, and a space where a letter after a backslash means them.
    text = re.sub(r"[\\%&\b\f]", "", text)
    bare = shown(text)
    assert shown(json.dumps(text)[1:-1]).replace("\\", "") == bare.replace("\\", "")
    assert shown(quote(text, safe="")) == bare
    assert shown(html.escape(text)).replace("&#x27;", "'") == bare


@pytest.mark.parametrize("piece", [
    "a@", "%", "%2", "%25", "%41", "%FF", "%C3", "\\", "\\\\", "\\u", "\\u0040", "\\ud83d", "\\ud83d\\", "&", "&#", "&#6", "&amp;", "&amp", "&amp;amp", "e\u0301", "\u0301", "\u0301\u0327", "\u1100\u1161\u11a8",
    "\u200b", "\uff20", "\ufdfa", "é%41", "%%34%30", "&#38;", r"\u005c", "\\ud83d\\u", "{", "[", '"',
])  # fmt: skip
@pytest.mark.timeout(60)
def test_hostile_texts_take_time_in_line_with_their_length(piece):
    text = piece * (400_000 // len(piece))
    try:
        found = plain(text + "%40")
    except Disguised:
        return  # withheld
    assert found is not None
    assert found.text.endswith("@")
    start, end = found.origin(len(found.text) - 1, len(found.text))
    assert end == len(text) + 3
    assert start >= len(text) - len(piece)


@pytest.mark.parametrize("code", [0x00, 0x01, 0x08, 0x0B, 0x1B, 0x1F, 0x7F, 0x80, 0x9F])
def test_a_control_character_without_a_shape_hides_nothing(code):
    found = plain(f"bob@exam{chr(code)}ple.com")
    assert found is not None
    assert found.text == "bob@example.com"
    assert found.origin(0, 15) == (0, 16)
