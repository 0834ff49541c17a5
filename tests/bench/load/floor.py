"""The floor: the plainest pass-through with the gateway's own stack, and none of its features."""

import json
import os

import requests
from flask import Flask, Response, request

app = Flask(__name__)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1024))
UPSTREAM = os.environ["FLOOR_UPSTREAM"]
HEADERS = {"Authorization": "Bearer x"}


@app.post("/v1/chat/completions")
def chat():
    body = request.get_json()
    if body.get("stream"):
        answer = session.post(UPSTREAM, json=body, headers=HEADERS, stream=True, timeout=60)
        return Response(answer.raw.stream(65536), content_type="text/event-stream")
    answer = session.post(UPSTREAM, json=body, headers=HEADERS, timeout=60)
    return Response(json.dumps(answer.json()), content_type="application/json")
