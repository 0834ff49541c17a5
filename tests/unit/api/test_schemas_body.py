import pytest

from gateway.api.schemas import read_json
from gateway.api.schemas.body import MAX_DEPTH
from gateway.errors import InvalidRequest, UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        FORM,
        MULTIPART,
        "application/xml",
        "nonsense",
    ],
)
def test_json_is_read_whatever_its_content_type_says(content_type):
    assert read_json(b' {"a": [1, "\xc3\xa9"]}\n', content_type) == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"{}", {}),
    ],
)
def test_what_can_be_made_sense_of_is_read(body, value):
    assert read_json(body, None) == value


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"model=x&prompt=secret", FORM),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nsecret\r\n--x--', MULTIPART),
        (b"<model>secret</model>", "application/xml"),
        (b"\x89PNG\r\n", "image/png"),
    ],
)
def test_a_body_that_is_something_else_is_an_unsupported_media_type(body, content_type):
    with pytest.raises(UnsupportedMediaType) as caught:
        read_json(body, content_type)
    assert "application/json" in caught.value.message


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", None, "empty"),
        (b" \r\n", MULTIPART, "empty"),
        (b'{"secret": 1,\n "b" 2}', None, "line 2, column 6"),
        (b'{"secret": 1', FORM, "line 1"),
        (b"secret", "application/json", "line 1, column 1"),
        (b"secret", "application/vnd.api+json", "line 1, column 1"),
        (b'{"secret": "\xff"}', None, "not UTF-8 at byte 12"),
        (b'{"secret": NaN}', None, "has NaN, which is no JSON number"),
        (b'{"secret": -Infinity}', None, "has -Infinity, which"),
        (b'{"secret": 1e999}', None, "a number that is too large"),
        (b'["secret"]', None, "must be a JSON object"),
        (b'"secret"', None, "must be a JSON object"),
        (b"null", FORM, "must be a JSON object"),
        (b'{"a":' * 100_000, None, "nested too deeply"),
        (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, None, "nested too deeply"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, None, "nested too deeply"),
        (b'{"\\ud83d":' + b"1" * 5_000 + b"}", None, "a number that is too long"),
    ],
)
def test_a_body_that_cannot_be_read_says_why_and_repeats_nothing(body, content_type, said):
    with pytest.raises(InvalidRequest) as caught:
        read_json(body, content_type)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert said in caught.value.message
    assert "secret" not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(("depth", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_nesting_is_read_up_to_its_limit(depth, fits):
    body = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    if fits:
        assert list(read_json(body, None)) == ["a"]
    else:
        with pytest.raises(InvalidRequest):
            read_json(body, None)


def test_many_flat_objects_are_not_deep():
    assert len(read_json(b'{"a": [' + b"{}," * 1000 + b"{}]}", None)["a"]) == 1001
