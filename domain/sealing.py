"""Encryption of health data, field by field: AES-256-GCM with envelope keys.

A group's database holds data keys, each wrapped (AES-256-GCM) by the master key that only the environment knows. A
sealed value is `version (1) | key id (4, big endian) | nonce (12) | ciphertext and tag`. The context (table, column and
row id) is authenticated along with it, so a sealed value that is moved to another row does not open.

Source: NIST SP 800-38D (GCM); random 96-bit nonces are safe up to 2**32 values a key.
"""

import os
from base64 import b64decode
from collections.abc import Mapping
from typing import Self

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = 1
_HEADER = 5
_NONCE = 12
_TAG = 16
_SHORTEST = _HEADER + _NONCE + _TAG
_WRAP_CONTEXT = b"manpasik data key"


class SealBroken(Exception):
    """A sealed value does not open: another key, another row, or changed bytes. Never shown to callers."""


def master_key(secret: str) -> bytes:
    """32 bytes from `ENCRYPTION_MASTER_KEY`: base64 of exactly 32 bytes is taken as it is, other text is stretched."""
    try:
        raw = b64decode(secret, validate=True)
    except ValueError:
        raw = b""
    return raw if len(raw) == 32 else derive_key(secret, purpose="master")


def derive_key(secret: str, *, purpose: str) -> bytes:
    """32 bytes for one purpose from a secret text (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=b"manpasik", info=purpose.encode()).derive(secret.encode())


def new_data_key(master: bytes) -> bytes:
    """A fresh data key, wrapped for storage."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(master).encrypt(nonce, AESGCM.generate_key(256), _WRAP_CONTEXT)


class Sealer:
    """Seals and opens values with the data keys of one group.

    Args:
        keys: data keys by id, unwrapped; the highest id seals, all of them open.
    """

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current_id = max(keys)
        self._current = self._ciphers[self._current_id]
        self._header = bytes([_VERSION]) + self._current_id.to_bytes(4, "big")

    @classmethod
    def unwrap(cls, wrapped: Mapping[int, bytes], master: bytes) -> Self:
        """Raises: SealBroken: the master key is not the one that wrapped these keys."""
        try:
            return cls({i: AESGCM(master).decrypt(w[:_NONCE], w[_NONCE:], _WRAP_CONTEXT) for i, w in wrapped.items()})
        except (InvalidTag, ValueError) as error:
            raise SealBroken("ENCRYPTION_MASTER_KEY does not open this database's data keys") from error

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """`plain` encrypted; `context` is needed again to open it, for example `profiles.health:<user id>`."""
        nonce = os.urandom(_NONCE)
        return self._header + nonce + self._current.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises: SealBroken: it does not open with this context."""
        if len(sealed) < _SHORTEST:
            raise SealBroken(f"{len(sealed)} bytes are too short for a sealed value ({context})")
        key_id = int.from_bytes(sealed[1:_HEADER], "big")
        cipher = self._ciphers.get(key_id)
        if sealed[0] != _VERSION or cipher is None:
            raise SealBroken(f"sealed with key {key_id}, version {sealed[0]}, which are not known here ({context})")
        nonce, body = sealed[_HEADER : _HEADER + _NONCE], sealed[_HEADER + _NONCE :]
        try:
            return cipher.decrypt(nonce, body, context.encode())
        except InvalidTag as error:
            raise SealBroken(f"a sealed value does not open as {context}") from error

    def seal_json(self, value: object, *, context: str) -> bytes:
        return self.seal(orjson.dumps(value), context=context)

    def open_json(self, sealed: bytes, *, context: str) -> object:
        """Raises: SealBroken: it does not open with this context."""
        value: object = orjson.loads(self.open(sealed, context=context))
        return value
