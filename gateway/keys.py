"""The key of a first start: made once, kept in the data folder, read by every worker."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from gateway.errors import ConfigurationError

FILE_NAME = "gateway-key"


def make_key() -> str:
    """Return a new key for a client: 256 random bits."""
    return "gw-" + secrets.token_urlsafe(32)


def load_or_make_key(data_dir: Path) -> str:
    """Return the key kept in the data folder, making it (mode 0600) if there is none yet. Safe between processes.

    :raises ConfigurationError: the folder cannot be used.
    """
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, make_key())
        key = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        problem = f"GATEWAY_DATA_DIR: the folder cannot be used ({error.strerror}); set it to one that can be written"
        raise ConfigurationError([problem]) from error
    if not key.startswith("gw-"):
        raise ConfigurationError([f"GATEWAY_DATA_DIR: {FILE_NAME} in it holds no key; delete the file to have one made"])
    return key


def _write_once(path: Path, key: str) -> None:
    """Write beside the file and link it into place: whoever comes second finds the first one's key, whole."""
    descriptor, name = tempfile.mkstemp(prefix=f"{FILE_NAME}.", dir=path.parent)  # mode 0600
    draft = Path(name)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
