"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`."""

import openai
from harness import EMBEDDING, KEY, MODEL, RETRIED, URL, run
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


def chat(model=MODEL, **options):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, **options)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}"


class City(BaseModel):
    name: str
    people: int


def whole():
    answer = chat().invoke("Say hello")
    assert "hello" in answer.content and answer.usage_metadata["total_tokens"] > 0


def stream():
    chunks = list(chat(stream_usage=True).stream("Say hello"))
    whole = sum(chunks[1:], chunks[0])
    assert "hello" in whole.content and whole.usage_metadata["total_tokens"] > 0


def tools():
    model = chat().bind_tools([get_weather])
    question = HumanMessage("The weather in Paris?")
    first = model.invoke([question])
    call = first.tool_calls[0]
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert "Sunny" in model.invoke([question, first, result]).content


def structured():
    assert isinstance(chat().with_structured_output(City).invoke("Paris as JSON"), City)


def responses():
    assert "hello" in chat(use_responses_api=True).invoke("Say hello").text


def embeddings():
    model = OpenAIEmbeddings(model=EMBEDDING, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
    one, two = model.embed_documents(["one", "two"])
    assert one != two and one == model.embed_query("one")


def error():
    try:
        chat("no-such-model").invoke("Say hello")
    except openai.NotFoundError as refused:
        assert refused.code == "model_not_found"
    else:
        raise AssertionError("no error")


def retry():
    assert chat(RETRIED).invoke("Say hello").content


run(
    whole=whole,
    stream=stream,
    tools=tools,
    structured=structured,
    responses=responses,
    embeddings=embeddings,
    error=error,
    retry=retry,
)
