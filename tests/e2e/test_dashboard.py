"""The dashboard in a real Chromium, as an operator uses it."""

import os
import shutil
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENS: dict[str, Any] = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}
FORGED = '<img src=x onerror="document.title=1">'
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def gateway(start_gateway):
    gateway = start_gateway({"GATEWAY_SANDBOX": "on"}, workers=1)
    for body in ({"project_id": "web"}, {"model": "sandbox/error"}, {"model": FORGED}):
        gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], **body})
    return gateway


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "chromium is missing"
        pytest.skip("chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, gateway):
    """Return a function that opens the dashboard on a screen, and the list of what its console complains of."""
    contexts = []

    def open_(screen):
        context = browser.new_context(**SCREENS[screen])
        contexts.append(context)
        page, complaints = context.new_page(), []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{gateway.url}/dashboard")
        return page, complaints

    yield open_
    for context in contexts:
        context.close()


def sign_in(page, key):
    page.fill("#key", key)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("screen", SCREENS)
def test_an_operator_sees_how_it_stands_and_asks_a_model(open_page, gateway, screen):
    page, complaints = open_page(screen)
    sign_in(page, gateway.key)
    page.wait_for_selector("#providers .card")
    assert "sandbox" in page.inner_text("#providers") and page.locator("#candidates tbody tr").count() > 30
    page.wait_for_selector(f"#requests td:has-text('{FORGED[:8]}')")  # as text, whatever a client made up
    assert "sandbox/sandbox/error:500" in page.inner_text("#requests") and page.title() == "AI gateway"
    page.wait_for_selector("#projects th:has-text('web')")
    page.fill("#prompt", "Say hello")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#took .attempt.ok")
    page.wait_for_selector("#answer[aria-busy=false]")
    assert "Say hello" in page.inner_text("#answer")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert complaints == []


def test_a_wrong_key_is_told_and_forgotten(open_page):
    page, _ = open_page("wide")
    sign_in(page, "sk-wrong")
    page.wait_for_selector("#problem:has-text('Incorrect API key')")
    assert page.evaluate("sessionStorage.length") == 0 and page.is_visible("#enter") and not page.is_visible("main")


def test_the_key_is_of_the_tab_alone(open_page, gateway):
    page, _ = open_page("wide")
    sign_in(page, gateway.key)
    page.wait_for_selector("#providers .card")
    page.reload()
    page.wait_for_selector("#providers .card")
    assert page.evaluate("localStorage.length") == 0 and page.evaluate("document.cookie") == ""
    page.click("#leave")
    assert page.is_visible("#enter")
