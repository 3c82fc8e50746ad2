"""Every string at any depth, object keys, numbers, and strings that hold JSON again."""

import json

import pytest
from privacy_rules import (
    EMAIL,
    NOW,
    SECRET,
    Pattern,
    Under,
    after,
    engine,
    refusal,
    rule,
    state,
    written,
)

from northbound.privacy.keys import Key
from northbound_detectors.ip import Ip, IpOptions

BOB = "bob@example.com"
HASHED = Key(SECRET).hash(BOB)


def redact(*detectors, name="redact", **options):
    return rule(*detectors, action="redact", name=name, **options)


def allow(*detectors, name="allow", **options):
    return rule(*detectors, action="allow", name=name, **options)


# values


def test_every_string_at_any_depth_and_every_key():
    value = {"a": [{"b": {"c": ("x", BOB)}}, [[BOB]]], f"key of {BOB}": {BOB: BOB}}
    text = written(value, rule(EMAIL))
    assert BOB not in text
    assert text.count(HASHED) == 5
    assert json.loads(text)["a"] == [{"b": {"c": ["x", HASHED]}}, [[HASHED]]]


def test_keys_that_become_alike_keep_all_members():
    value = {f"u{number}@example.com": number for number in range(50)} | {"[redacted]": "taken", "[redacted]~2": "too"}
    result = after(value, redact(EMAIL))
    assert sorted(map(str, result.values())) == sorted([*map(str, range(50)), "taken", "too"])
    assert len(result) == 52


@pytest.mark.timeout(60)
def test_keys_that_become_alike_take_time_in_line_with_their_number():
    value = {f"u{number}@example.com": number for number in range(30_000)}
    for acting in (redact(EMAIL), rule(EMAIL, action="mask")):
        assert len(after(value, acting)) == 30_000


def test_str_subclasses_are_looked_at_or_refused():
    class Name(str):
        __slots__ = ()

    for value in (Name(BOB), [Name(BOB)], {"a": Name(BOB)}, {Name(BOB): 1}):
        done = engine(rule(EMAIL)).process([state(value)], NOW)
        assert BOB not in str(done.refused)
        assert all(BOB.encode() not in message.payload for message in done.messages)


def test_strings_that_hold_json_are_looked_into():
    value = json.dumps({"note": json.dumps([BOB, {"email": BOB}]), "n": 1.0})
    result = after(value, rule(EMAIL))
    assert json.loads(json.loads(result)["note"]) == [HASHED, {"email": HASHED}]
    spaced = ' \n [ "bob\\u0040example.com" ] '
    assert json.loads(after(spaced, rule(EMAIL))) == [HASHED]


def test_json_in_a_string_keeps_the_digits_of_its_numbers():
    text = f'["{BOB}", 1.10, 12345678901234567890123, 0.1234567890123456789, 1.0, 9007199254740993]'
    assert (
        after(text, redact(EMAIL))
        == '["[redacted]",1.10,12345678901234567890123,0.1234567890123456789,1.0,9007199254740993]'
    )


def test_json_in_a_string_without_a_match_stays_as_it_is():
    text = '{ "a" : 1.10, "b": "x@" }'
    assert after(text, redact(EMAIL)) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"bob@example.com","a":"x"}',
        '{"a":"x","a":"bob@example.com"}',
        '[{"a":{"b":"bob@example.com"},"a":[]}]',
        '{"bob@example.com":1,"a":"x","a":"y"}',
    ],
)
def test_a_key_that_comes_twice_in_a_string_that_holds_json_hides_nothing(text):
    assert BOB not in after(text, rule(EMAIL))
    assert BOB not in json.dumps(after({"x": [text]}, redact(EMAIL)))


@pytest.mark.parametrize(
    "text",
    [
        '{"password":"hunter2","password":"***"}',
        '{"password":"***","password":"hunter2"}',
        '{"password":1,"password":2,"password":["hunter2"]}',
    ],
)
def test_a_secret_under_a_key_that_comes_twice_is_found(text):
    assert "hunter2" not in after(text, redact(Under("password")))
    assert "hunter2" not in after({"s": text}, redact(paths=("$.s.password",)))["s"]


def test_a_secret_is_found_under_its_key_at_any_depth_and_in_json_in_a_string():
    under = redact(Under("password"))
    assert after({"password": "hunter2", "user": "hunter2"}, under) == {"password": "[redacted]", "user": "hunter2"}
    assert after({"password": [["hunter2"]]}, under) == {"password": [["[redacted]"]]}
    assert after({"PassWord": "hunter2"}, under) == {"PassWord": "[redacted]"}
    assert after({"pass%77ord": "hunter2"}, under) == {"pass%77ord": "[redacted]"}
    assert after({"x": '{"password": "hunter2"}'}, under) == {"x": '{"password":"[redacted]"}'}
    assert after({"x": r'{"pass\u0077ord": "hunter2"}'}, under) == {"x": '{"password":"[redacted]"}'}
    assert after("hunter2", under, state="password") == "[redacted]"
    assert after(["hunter2"], under, state="Password") == ["[redacted]"]


@pytest.mark.parametrize(
    "value",
    [
        {"password": {"current": "hunter2"}},
        {"password": {"old": "hunter2", "new": ["hunter2"]}},
        {"password": {"Previous": {"value": "hunter2"}}},
        {"name": "password", "value": "hunter2"},
        {"key": "password", "val": "hunter2"},
        {"Key": "password", "Value": "hunter2"},
        {"id": 7, "label": "password", "data": [{"content": "hunter2"}]},
        {"field": "password", "old": "hunter2", "new": "hunter2"},
    ],
)
def test_a_key_that_tells_nothing_inherits_what_its_object_is_called(value):
    assert "hunter2" not in written(value, redact(Under("password")))
    assert "hunter2" not in written(json.dumps([value]), redact(Under("password")))


@pytest.mark.parametrize("value", [{"name": "password", "id": "sys-7"}, {"password": {"updated": "noon"}}])
def test_an_id_and_a_key_that_tells_something_do_not(value):
    assert after(value, redact(Under("password"))) == value


@pytest.mark.parametrize("key", ["pass%77ord", "\uff50assword", r"pass\u0077ord", "pass\u200bword"])
def test_a_status_key_is_shown_to_detectors_in_its_plain_form(key):
    assert after("hunter2", redact(Under("password")), state=key) == "[redacted]"


def test_numbers_are_looked_at_by_detectors_that_ask_for_them():
    badge = Pattern(r"\b4711\d*", "badge", numbers=True)
    value = {"a": 4711, "b": 471155, "c": 4711.5, "d": "4711", "e": True, "f": 12}
    assert after(value, redact(badge)) == {
        "a": "[redacted]",
        "b": "[redacted]",
        "c": "[redacted].5",
        "d": "[redacted]",
        "e": True,
        "f": 12,
    }
    assert after(value, redact(Pattern(r"\b4711\d*", "text only"))) == value | {"d": "[redacted]"}
    assert after(4711, rule(badge)) == Key(SECRET).hash("4711")


@pytest.mark.parametrize(
    "text",
    [
        "%7B%22badge%22%3A%221234%22%7D",
        "%257B%2522badge%2522%253A%25221234%2522%257D",
        "{&quot;badge&quot;:&quot;1234&quot;}",
        "&#123;&quot;badge&quot;:&quot;1234&quot;}",
        r"{\"badge\":\"1234\"}",
        r"{\\\"badge\\\":\\\"1234\\\"}",
        '\ufeff{"badge":"1234"}',
        ' \u200b \ufeff[{"badge":"1234"}]',
        "%20%7B%22badge%22%3A%221234%22%2C%22note%22%3A%22x%5C%22y%22%7D",
        '\uff5b"badge":"1234"\uff5d',
        "%5B%22x%22%2C" + "%20" * 100 + "%7B%22badge%22%3A%221234%22%7D%5D",
        "%0A" * 100 + "%7B%22badge%22%3A%221234%22%7D",
    ],
)
def test_json_in_disguise_is_looked_into(text):
    under = redact(Under("badge"))
    for value in (text, {"a": [text]}, json.dumps({"a": text})):
        once = after(value, under)
        assert "1234" not in json.dumps(once)
        assert "badge" in json.dumps(once)
        assert after(once, under) == once
    assert "1234" not in after({"a": text}, redact(paths=("$.a..badge",)))["a"]


@pytest.mark.parametrize(
    "text", ["%7B%22desk%22%3A%2212%22%7D", r'{"x\": broken', "%7B%7B%7B", "&amp;", '\ufeff{"desk":1}']
)
def test_what_is_disguised_and_holds_no_match_stays_as_it_is(text):
    assert after({"a": text, "badge": "x"}, redact(Under("badge"))) == {"a": text, "badge": "[redacted]"}


def test_an_address_that_is_found_in_no_member_of_a_disguised_document_is_found_in_its_text():
    across = Pattern(r'"b":"c"', "across", literals=('"b"',))
    assert after('\ufeff{"b":"c"}', redact(across)) == "\ufeff{[redacted]}"


def test_a_few_numbers_in_an_array_are_looked_at_together():
    pair = Pattern(r"51\.5074,-0\.1278", "pair", numbers=True)
    found = redact(pair)
    for wrap in (lambda row: row, lambda row: {"at": row}, lambda row: [row, 1], json.dumps):
        assert after(wrap([51.5074, -0.1278]), found) == wrap("[redacted]")
        assert after(wrap([51.5074, -0.1278, 35.5]), found) == wrap("[redacted],35.5")
        assert after(wrap([51.5074, -0.1278, 35]), found) == wrap("[redacted],35")
    others = ([51.5074, -0.1279], [51.5074, 0, 1], [51.5074, -0.1278, 1.5, 2.5], [51.5074], [51.5074, "-0.1278"])
    for row in (*others, [51, 0], [True, 1.5]):
        assert after({"at": row}, found) == {"at": row}
    assert after([51.5074, -0.1278], redact(Pattern("51.*", "of texts"))) == [51.5074, -0.1278]
    assert after({"at": [51.5074, -0.1278], "b": 1}, redact(pair, scope="key")) == {"b": 1}
    assert written({"at": [51.5074, -0.1278]}, rule(pair, action="generalise", decimals=1)) == '{"at":[51.5,-0.1]}'
    assert after("[51.5074, -0.1278]", rule(pair, action="generalise", decimals=1)) == "[51.5,-0.1]"
    assert after([51.5074, -0.1278], allow(pair), redact(pair)) == [51.5074, -0.1278]
    assert after({"at": [51.5074, -0.1278]}, redact(pair, paths=("$.at",))) == {"at": "[redacted]"}
    assert after({"at": [51.5074, -0.1278]}, redact(pair, paths=("$.at[0]",))) == {"at": [51.5074, -0.1278]}


def test_what_a_mask_has_left_is_left_the_next_time():
    ip = Ip(IpOptions(), name="ip")
    masked = rule(ip, action="mask", keep_last=4)
    assert after("by 2001:db8::1", masked) == after("by ***8::1", masked, redact(ip)) == "by ***8::1"
    assert after("*** 8::1 ***8::17", masked) == "*** *** ******::17"
    assert after("1:1::", masked) == after("***:1::", masked) == "***:1::"
    assert after("by ***2001:db8::1", masked) == "by ******8::1"  # more than it keeps


def test_a_coarse_number_stays_a_number_of_its_kind():
    value = {"n": 37, "f": 21.37, "s": "37 people", "t": True, "x": None, "deep": [{"n": 44}]}
    result = written(value, rule(action="generalise", paths=("$",), round=10))
    assert result == '{"n":40,"f":20,"s":"40 people","t":true,"x":null,"deep":[{"n":40}]}'
    assert written(7, rule(action="generalise", states=("count",), buckets=(0, 5, 10)), state="count") == "5"
    text = '{"n": 37.25, "m": 1.10}'
    assert after({"s": text}, rule(action="generalise", paths=("$.s.n",), round=10)) == {"s": '{"n":40,"m":1.10}'}


@pytest.mark.parametrize(
    "text",
    [BOB, f"call {BOB}", f"37 people ask {BOB}", f"2023-11-14T22:13:20Z {BOB}", f'[37, "{BOB}"]', f'{{"{BOB}": 1}}'],
)
@pytest.mark.parametrize("options", [{"round": 10}, {"time": "hour"}])
def test_generalise_shields_no_text_from_the_rules_behind(text, options):
    coarse = rule(action="generalise", states=("power",), name="coarse", **options)
    assert BOB not in after(text, coarse, rule(EMAIL))
    assert BOB not in after({"a": [text]}, coarse, redact(EMAIL))["a"][0]


def test_paths_lead_into_strings_that_hold_json():
    assert after({"s": '{"who": "ann", "n": 1}'}, redact(paths=("$.s.who",))) == {"s": '{"who":"[redacted]","n":1}'}


def test_a_number_that_cannot_be_made_coarser_withholds_the_event():
    reason = refusal({"n": 1e300}, rule(action="generalise", paths=("$.n",), round=10, name="coarse"))
    assert "'coarse'" in reason
    assert "300" not in reason


def test_deep_values_pass_or_are_refused():
    value = BOB
    for _ in range(150):
        value = {"k": [value]}
    assert BOB not in written(value, rule(EMAIL))
    for _ in range(2000):
        value = [value]
    assert "deep" in refusal(value, rule(EMAIL))
