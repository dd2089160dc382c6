"""The secrets of an embedded platform: made at random on the first start, kept in one file that only its owner reads."""

import json
import os
import secrets
import string
from base64 import b64encode
from pathlib import Path

from infra.local.errors import LocalStackError

_NAMES = ("JWT_SECRET", "ENCRYPTION_MASTER_KEY", "DB_PASSWORD", "DEMO_PASSWORD")


def make_private(folder: Path) -> None:
    """Make the folder of the platform's data, or take it away from other users of the machine where they could read it.

    Raises:
        LocalStackError: it cannot be made, or belongs to another user.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise LocalStackError(f"{folder} cannot be made private: {error.strerror}; set MANPASIK_HOME") from error


def load_or_create(path: Path) -> dict[str, str]:
    """The secrets by the names of their variables.

    Raises:
        LocalStackError: the file is there and cannot be read; without it the stored health data does not open.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return _create(path)
    except OSError as error:
        raise LocalStackError(f"{path} cannot be read: {error.strerror}") from error
    try:
        stored = {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise LocalStackError(f"{path} is damaged; restore it, or remove {path.parent} to start empty") from error
    if missing := [name for name in _NAMES if name not in stored]:
        raise LocalStackError(f"{path} lacks {', '.join(missing)}; restore it, or remove {path.parent} to start empty")
    return stored


def _create(path: Path) -> dict[str, str]:
    made = {
        "JWT_SECRET": secrets.token_urlsafe(32),
        "ENCRYPTION_MASTER_KEY": b64encode(secrets.token_bytes(32)).decode(),
        "DB_PASSWORD": secrets.token_urlsafe(24),
        "DEMO_PASSWORD": _password(),
    }
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(made, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)  # whole or not at all
    return made


def _password() -> str:
    """A password that the platform's own policy takes, easy to type."""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
    return f"Demo-{letters}-{secrets.randbelow(9000) + 1000}"
