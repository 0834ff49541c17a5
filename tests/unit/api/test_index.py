import re

import pytest

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def test_browsers_get_a_page_whose_links_work(application):
    answer = application.get("/", headers={"Accept": BROWSER})
    assert answer.mimetype == "text/html" and "script-src 'self'" in answer.headers["Content-Security-Policy"]
    links = re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)
    assert {"/docs", "/dashboard", "/v1/models"} < set(links)
    for link in links:
        with application.get(link) as found:
            assert (link, found.status_code) == (link, 200)


@pytest.mark.parametrize("accept", ["*/*", "application/json", None, "text/plain"])
def test_all_others_get_json(application, accept):
    answer = application.get("/", headers={"Accept": accept} if accept else {})
    assert answer.mimetype == "application/json" and answer.json["models"] == "/v1/models"
    assert answer.headers["Vary"] == "Accept"


def test_a_health_check_without_a_body_works(application):
    answer = application.client.head("/")
    assert answer.status_code == 200 and answer.data == b""
