import base64
import zlib

import pytest

from gateway.surfaces.responses.ids import LONGEST_ID, MOST_CARRIED_BYTES, carrying_id, is_thought, item_in, new_id

MESSAGE = {"type": "message", "role": "assistant", "content": "Let me look. \U0001f600 \ud83d"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
GROUPED = {**CALL, "namespace": "crm"}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "*** Begin"}


def carry(said: bytes, prefix="msg"):
    return f"{prefix}_g1_{base64.urlsafe_b64encode(b'abc' + zlib.compress(said)).decode().rstrip('=')}"


@pytest.mark.parametrize("item", [MESSAGE, CALL, GROUPED, CUSTOM], ids=["message", "call", "in a namespace", "custom"])
def test_an_id_carries_its_item(item):
    id_ = carrying_id(item)
    assert item_in(id_) == item
    assert id_.isascii() and id_.replace("_", "").replace("-", "").isalnum()
    assert id_ != carrying_id(item)  # two items that say the same are two


@pytest.mark.parametrize(
    ("kind", "prefix"), [("message", "msg_"), ("function_call", "fc_"), ("custom_tool_call", "ctc_"), ("reasoning", "rs_")]
)
def test_ids_begin_as_those_of_the_api(kind, prefix):
    assert new_id(kind).startswith(prefix) and new_id("response").startswith("resp_")
    assert item_in(new_id(kind)) is None


def test_an_item_that_is_too_long_gets_a_random_id():
    for words in (" ".join(str(n * 7919) for n in range(600)), "word " * 2000):
        id_ = carrying_id({**MESSAGE, "content": words})
        assert len(id_) < 64 and item_in(id_) is None
    repeated = {**MESSAGE, "content": "word " * 1600}
    assert len(carrying_id(repeated)) <= LONGEST_ID and item_in(carrying_id(repeated)) == repeated


DAMAGED = {
    "nothing": "",
    "another's": "msg_1",
    "an empty carrier": "msg_g1_",
    "a thought": "rs_g1_abc",
    "cut": carrying_id(MESSAGE)[:-4],
    "in lower case": carrying_id(MESSAGE).lower(),
    "of another kind": carrying_id(MESSAGE).replace("msg", "fc"),
    "no JSON": carry(b"not JSON"),
    "no list": carry(b'{"content": "x"}'),
    "too many": carry(b'["a", "b"]'),
    "a bomb": carry(b" " * (MOST_CARRIED_BYTES + 1) + b'["x"]'),
    "too long": "msg_g1_" + "A" * LONGEST_ID,
}


@pytest.mark.parametrize("id_", DAMAGED.values(), ids=list(DAMAGED))
def test_what_is_damaged_or_made_up_carries_nothing(id_):
    assert item_in(id_) is None


def test_a_thought_is_known_by_its_id():
    assert is_thought(new_id("reasoning")) and not is_thought(new_id("message"))
