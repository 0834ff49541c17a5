from gateway.analytics.report import Analytics, minutes_body
from gateway.analytics.series import ttft_field
from gateway.state.base import Place

DAY = 20_000  # 2024-10-04
NOTHING = {"requests": 0, "successful": 0, "failed": 0, "tokens": {"prompt": 0, "completion": 0, "total": 0}}


def entry(requests, successful, prompt=0, completion=0):
    tokens = {"prompt": prompt, "completion": completion, "total": prompt + completion}
    return {"requests": requests, "successful": successful, "failed": requests - successful, "tokens": tokens}


def test_days_are_summed_up_by_provider_model_project_key_and_day():
    sums = Analytics()
    sums.add({Place(DAY, "", "alice groq/same"): {"requests": 5, "successful": 4, "prompt": 50, "completion": 20}})
    sums.add(
        {
            Place(DAY + 1, "p", "bob cerebras/same"): {"requests": 2, "successful": 2, "prompt": 3, "completion": 1},
            Place(DAY + 1, "p", "bob groq/a/b"): {"requests": 1},
            Place(DAY + 1, "", "bob "): {"requests": 9},
        }
    )
    assert sums.to_body(DAY - 1, DAY + 1) == {
        "total_requests": 17,
        "successful_requests": 6,
        "failed_requests": 11,
        "success_rate": 0.3529,
        "tokens": {"prompt": 53, "completion": 21, "total": 74},
        "providers": {"groq": entry(6, 4, 50, 20), "cerebras": entry(2, 2, 3, 1)},
        "models": {"same": entry(7, 6, 53, 21), "a/b": entry(1, 0)},
        "projects": {"p": entry(3, 2, 3, 1)},
        "keys": {"bob": entry(12, 2, 3, 1), "alice": entry(5, 4, 50, 20)},
        "days": [
            {"date": "2024-10-03", **NOTHING},
            {"date": "2024-10-04", **entry(5, 4, 50, 20)},
            {"date": "2024-10-05", **entry(12, 2, 3, 1)},
        ],
    }


def test_those_with_the_most_requests_come_first():
    sums = Analytics()
    sums.add({Place(DAY, name, "k "): {"requests": requests} for name, requests in (("b", 1), ("c", 9), ("a", 1))})
    assert list(sums.to_body(DAY, DAY)["projects"]) == ["c", "a", "b"]


def test_without_a_request_nothing_is_known():
    body = Analytics().to_body(DAY, DAY)
    assert (body["total_requests"], body["success_rate"], body["providers"]) == (0, None, {})
    assert body["days"] == [{"date": "2024-10-04", **NOTHING}]


def test_every_minute_has_an_entry():
    minute = DAY * 24 * 60
    first = {"requests": 3, "successful": 2, "prompt": 7, "completion": 1, ttft_field(100): 2}
    other = {"requests": 4, "successful": 4, ttft_field(1000): 3}
    figures = {Place(minute, "", "groq"): first, Place(minute, "", "gemini"): other, Place(minute, "", ""): {"requests": 1}}
    full, empty = minutes_body(figures, minute, minute + 1)
    assert 950 < full.pop("ttft_ms_p50") < 1050
    assert full == {
        "t": "2024-10-04T00:00:00Z",
        "requests": 8,
        "successful": 6,
        "tokens": {"prompt": 7, "completion": 1, "total": 8},
        "providers": {"groq": 3, "gemini": 4},
    }
    assert (empty["t"], empty["requests"], empty["ttft_ms_p50"], empty["providers"]) == ("2024-10-04T00:01:00Z", 0, None, {})
