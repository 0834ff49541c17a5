import pytest

from gateway import jsonio


@pytest.mark.parametrize("text", [b"{", b"", b"NaN", b"-Infinity", b"1e999", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        jsonio.loads(text)


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64, 10**40])
def test_whole_numbers_of_any_length_can_be_kept(number):
    assert jsonio.dumps(jsonio.loads_exactly(b'{"n": %d}' % number)) == b'{"n":%d}' % number


def test_a_lone_surrogate_is_read_and_written_back():
    assert jsonio.loads(jsonio.dumps(jsonio.loads(b'{"a": "\\ud83d"}'))) == {"a": "\ud83d"}


def test_text_is_written_as_utf8():
    assert jsonio.dumps({"a": "\u00e9"}) == '{"a":"\u00e9"}'.encode()
