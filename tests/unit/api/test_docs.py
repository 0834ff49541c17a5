import re
import subprocess
import sys

import pytest


def test_the_page_has_all_it_needs_from_here(application):
    answer = application.get("/docs", headers={})
    assert answer.status_code == 200 and "script-src 'self'" in answer.headers["Content-Security-Policy"]
    links = [link for link in re.findall(r'(?:href|src)="([^"]*)"', answer.text) if link != "data:,"]
    assert len(links) >= 4 and all(link.startswith("/") for link in links)
    for link in links:
        with application.get(link, headers={}) as found:
            assert (link, found.status_code) == (link, 200)


def test_nothing_in_the_page_is_inline(application):
    page = application.get("/docs", headers={}).text
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page)


@pytest.mark.parametrize("name", ["index.html", "oauth2-redirect.html", "../__init__.py", "LICENSE"])
def test_no_more_of_the_package_is_shown_than_the_page_needs(application, name):
    answer = application.get(f"/docs/swagger/{name}", headers={})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "unknown_path")


def test_a_description_that_has_not_changed_is_not_sent_again(application):
    first = application.get("/openapi.json", headers={})
    again = application.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")


def test_a_gateway_starts_without_what_builds_the_description():
    looks = "import sys, gateway.factory; print([m for m in ('apispec', 'flask_swagger_ui') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True).stdout == "[]\n"
