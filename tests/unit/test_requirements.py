"""The packages that run: pinned one by one in requirements.txt, and with the hashes of the whole tree in .requirements.lock.

That the lock's tree is complete shows where it is installed (.ci/run).
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.M)


def pins():
    """Return the lines of requirements.txt, without comments and extras: the lock names the packages behind these."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    return [re.sub(r"\[.*\]", "", line) for line in lines if line]


def entries():
    """Return what the lock says of each package: (name, version) and the text about it."""
    text = (ROOT / ".requirements.lock").read_text()
    starts = [*ENTRY.finditer(text)]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {(match[1], match[2]): text[match.start() : end] for match, end in zip(starts, ends, strict=True)}


def test_every_package_is_pinned_exactly():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins())


def test_the_lock_asks_for_what_the_requirements_do():
    direct = {f"{name}=={version}" for (name, version), text in entries().items() if "-r requirements.txt" in text}
    assert direct == set(pins())


def test_everything_in_the_lock_has_hashes():
    assert all("--hash=sha256:" in text for text in entries().values())
