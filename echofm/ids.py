"""Keyed hashes: the only names under which files, clips and patients leave a reader.

HMAC-SHA256 (RFC 2104) cut to 80 bits. Without the key nobody can test a guess of a patient's name against an id;
with the same key the same patient has the same id in every run. The key never enters an output.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from echofm.errors import EchofmError

_HEX_DIGITS = 20
_MINIMUM_KEY_BYTES = 16

_KNOWN = ".avi .mp4 .mov .mkv .dcm .dicom .nii .gz .mhd .raw .png .jpg .csv .tar .npz .npy .json .cfg .txt .pth"
_SUFFIXES = frozenset(_KNOWN.split())


class IdKey:
    """A secret key and the ids that it gives. Compare ids only between outputs of one key."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _MINIMUM_KEY_BYTES:
            raise EchofmError(
                f"the id key is shorter than {_MINIMUM_KEY_BYTES} bytes; make one with "
                "`head -c 32 /dev/urandom | base64 > id.key`"
            )
        self._secret = secret

    def _hash(self, purpose: str, name: bytes) -> str:
        message = purpose.encode() + b"\0" + name
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:_HEX_DIGITS]

    def patient(self, name: str) -> str:
        """Id of a patient from the name that the source uses (a tag, a folder, a column)."""
        return self._hash("patient", name.encode("utf-8", "surrogateescape"))

    def study(self, patient: str, name: str) -> str:
        """Id of a patient's study from the names that the source uses; many number each patient's studies anew."""
        return self._hash("study", f"{patient}\0{name}".encode("utf-8", "surrogateescape"))

    def clip(self, content_sha256: bytes) -> str:
        """Id of a clip from the digest of its file: the same file has one id wherever it lies."""
        return self._hash("clip", content_sha256)

    def file(self, path: str | Path) -> str:
        """Name of a file in errors and set-aside rows: a hash of its absolute path, then its suffix."""
        absolute = os.path.abspath(path)
        suffix = Path(absolute).suffix.lower()
        # A suffix is shown only where it is a file type; `scan.Jane_Doe` must not pass for one.
        shown = suffix if suffix in _SUFFIXES else ""
        return self._hash("file", absolute.encode("utf-8", "surrogateescape")) + shown

    def __repr__(self) -> str:
        return "IdKey(...)"


def default_key_path() -> Path:
    """$ECHOFM_HOME/id.key, else ~/.config/echofm/id.key."""
    home = os.environ.get("ECHOFM_HOME") or Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "echofm"
    try:
        return Path(home).expanduser() / "id.key"
    except RuntimeError:
        raise _homeless("this user has no home folder") from None


def load_key(path: str | Path | None = None) -> IdKey:
    """The key in a file; without a path this user's own, made on first use and readable by the user alone.

    Raises EchofmError where the file is missing, unreadable or too short.
    """
    return _load_default(default_key_path()) if path is None else IdKey(_read(Path(path)))


@functools.lru_cache(maxsize=8)
def _load_default(path: Path) -> IdKey:
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        raise _homeless(os.strerror(error.errno or 0)) from None
    return IdKey(_read(path))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Whole or not at all: another process may look for it at this moment.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
        _give_name(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _give_name(name: str, path: Path) -> None:
    """Let a file be found under a path, unless another process was faster."""
    try:
        os.link(name, path)
    except FileExistsError:
        pass
    except OSError:
        # Some file systems have no links.
        if not path.exists():
            os.rename(name, path)


def _homeless(reason: str) -> EchofmError:
    return EchofmError(
        f"your own id key cannot be made ({reason}); set $ECHOFM_HOME to a folder that can be written, or name a key's "
        "file by --id-key"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise EchofmError(f"the id key cannot be read ({error.strerror}); check --id-key") from None


def file_id(path: str | Path) -> str:
    """Name of a file in errors, under this user's own key."""
    return load_key().file(path)
