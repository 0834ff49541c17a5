"""`instructor`: structured answers by a tool and by JSON mode, whole and as they grow."""

import instructor
import openai
from harness import KEY, MODEL, RETRIED, URL, run
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Paris"}]


class City(BaseModel):
    name: str
    people: int


def client(mode):
    return instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY), mode=mode)


def by_tool():
    assert isinstance(client(instructor.Mode.TOOLS).create(model=MODEL, messages=HELLO, response_model=City), City)


def by_schema():
    assert isinstance(client(instructor.Mode.JSON_SCHEMA).create(model=MODEL, messages=HELLO, response_model=City), City)


def stream():
    partial = list(client(instructor.Mode.TOOLS).create_partial(model=MODEL, messages=HELLO, response_model=City))
    assert partial and partial[-1].name is not None


def error():
    try:
        client(instructor.Mode.TOOLS).create(model="no-such-model", messages=HELLO, response_model=City)
    except Exception as refused:
        assert "does not exist" in str(refused)
    else:
        raise AssertionError("no error")


def retry():
    assert isinstance(client(instructor.Mode.TOOLS).create(model=RETRIED, messages=HELLO, response_model=City), City)


run(by_tool=by_tool, by_schema=by_schema, stream=stream, error=error, retry=retry)
