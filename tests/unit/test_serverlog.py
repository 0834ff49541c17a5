import logging

import pytest
from gunicorn.config import Config

from gateway.serverlog import ServerLog


@pytest.fixture
def log(caplog):
    log = ServerLog(Config())
    log.error_log.setLevel(logging.DEBUG)
    log.error_log.propagate = True
    return log


def raising(text, say):
    try:
        raise ValueError(text)
    except ValueError:
        say()


def test_a_line_about_nothing_that_failed_is_as_it_was(log, caplog):
    log.warning("Worker %s: %s", 7, "is here")
    log.debug("100%")
    assert [record.getMessage() for record in caplog.records] == ["Worker 7: is here", "100%"]


@pytest.mark.parametrize(
    ("line", "arguments", "said"),
    [
        (
            "Invalid request from ip=192.0.2.1: Invalid HTTP Header: 'SECRET'",
            (),
            "Invalid request from ip=192.0.2.1 (ValueError)",
        ),
        ("Ignored premature client disconnection. %s", ("SECRET",), "Ignored premature client disconnection. (ValueError)"),
        ("100% SECRET", (), "100 (ValueError)"),
    ],
)
@pytest.mark.parametrize("level", ["debug", "warning"])
def test_what_failed_is_not_quoted(log, caplog, level, line, arguments, said):
    raising("SECRET", lambda: getattr(log, level)(line, *arguments))
    assert [record.getMessage() for record in caplog.records] == [said] and "SECRET" not in caplog.text


def test_of_an_exception_the_places_are_told(log, caplog):
    raising("SECRET", lambda: log.exception("Error handling request %s", "/?key=SECRET"))
    assert "Error handling request (ValueError)" in caplog.text and "in raising" in caplog.text
    assert "SECRET" not in caplog.text


def test_what_keeps_a_worker_from_starting_is_told_in_full(log, caplog):
    raising("no module named x", lambda: log.exception("Exception in worker process"))
    assert "ValueError: no module named x" in caplog.text
