"""The requests that are measured with."""

MODEL = "llama-3.3-70b-versatile"

SMALL = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "temperature": 0.7,
    "max_tokens": 256,
}
STREAMED = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
LARGE = {  # 1 MB
    **SMALL,
    "messages": [
        {"role": ("user", "assistant")[number % 2], "content": f"message {number} " + "lorem ipsum " * 40}
        for number in range(2001)
    ],
}
