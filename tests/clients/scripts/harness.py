"""What the scripts of Python clients share: where the gateway is, what is asked, and how each scenario's end is told.

A script gives `run` its scenarios by name; each raises where the client does not get what its users expect.
"""

import json
import os
import traceback

URL = os.environ["GATEWAY_URL"]  # without /v1
KEY = os.environ["GATEWAY_KEY"]
MODEL = "any-model"  # does everything; "auto" is for those who do not care
RETRIED = "cerebras/gpt-oss-120b"  # its first call is refused with 429 and Retry-After: 1
EMBEDDING = "any-embedding"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def run(**scenarios):
    for name, scenario in scenarios.items():
        try:
            scenario()
            problem = None
        except BaseException:
            problem = traceback.format_exc()
        print(json.dumps({"scenario": name, "problem": problem}), flush=True)
