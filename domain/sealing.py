"""Encryption of health data, field by field: AES-256-GCM with envelope keys.

A group's database holds data keys, each wrapped (AES-256-GCM) by the master key that only the environment knows. A
sealed value is `version (1) | key id (4, big endian) | nonce (12) | ciphertext and tag`. The context (table, column and
row id) is authenticated along with it, so a sealed value that is moved to another row does not open.

Events leave their database, so what is sealed in them carries its key along, wrapped: `EventSealer`.

Source: NIST SP 800-38D (GCM); random 96-bit nonces are safe up to 2**32 values a key.
"""

import hmac
import os
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from hashlib import sha256
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
_WRAPPED = _NONCE + 32 + _TAG
_EVENT_VERSION = 2
_EVENT_HEADER = 1 + 4 + _WRAPPED
_EVENT_KEY_VALUES = 2**20
_EVENT_KEY_S = 24 * 3600.0
_MOST_EVENT_KEYS = 1000


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


class EventSealer:
    """Seals fields of events for a topic, and opens those that others sealed with the same master key.

    Each process makes a data key for a topic, and a new one every day or 2**20 events. A sealed value is `version (1) |
    id of the master key (4) | wrapped data key (60) | nonce (12) | ciphertext and tag`. The data key is bound to its
    topic, the ciphertext to topic and event id, so neither opens anywhere else. A new master key is introduced by giving
    it first and the old one after it: the first seals, all of them open.

    Args:
        masters: master keys of 32 bytes each.
    """

    def __init__(self, masters: Sequence[bytes]) -> None:
        keys = [HKDF(algorithm=SHA256(), length=64, salt=b"manpasik", info=b"events").derive(m) for m in masters]
        self._masters = {sha256(key[:32]).digest()[:4]: AESGCM(key[:32]) for key in keys}
        self._master_id = next(iter(self._masters))
        self._pseudonyms = keys[0][32:]
        self._sealing: dict[str, _EventKey] = {}
        self._opening: dict[tuple[bytes, str], AESGCM] = {}

    def seal(self, plain: bytes, *, topic: str, event_id: str) -> bytes:
        """`plain` encrypted for one event of a topic."""
        key = self._sealing.get(topic)
        if key is None or key.is_used_up():
            key = self._sealing[topic] = self._new_key(topic)
        key.left -= 1
        nonce = os.urandom(_NONCE)
        return key.header + nonce + key.cipher.encrypt(nonce, plain, _event_context(topic, event_id))

    def open(self, sealed: bytes, *, topic: str, event_id: str) -> bytes:
        """Raises: SealBroken: another master key, topic or event, or changed bytes."""
        if len(sealed) < _EVENT_HEADER + _NONCE + _TAG or sealed[0] != _EVENT_VERSION:
            raise SealBroken(f"{topic}: no sealed value of version {_EVENT_VERSION}")
        header, nonce = sealed[:_EVENT_HEADER], sealed[_EVENT_HEADER : _EVENT_HEADER + _NONCE]
        cipher = self._opening.get((header, topic)) or self._unwrapped(header, topic)
        try:
            return cipher.decrypt(nonce, sealed[_EVENT_HEADER + _NONCE :], _event_context(topic, event_id))
        except InvalidTag as error:
            raise SealBroken(f"{topic}: a sealed value does not open for its event") from error

    def pseudonym(self, key: str, *, topic: str) -> str:
        """Stands for a person's id as the key of a topic's events: the same for the same id, and tells nothing of it."""
        return hmac.new(self._pseudonyms, f"{topic}\0{key}".encode(), sha256).hexdigest()[:32]

    def _new_key(self, topic: str) -> "_EventKey":
        raw, nonce = AESGCM.generate_key(256), os.urandom(_NONCE)
        wrapped = nonce + self._masters[self._master_id].encrypt(nonce, raw, _event_key_context(topic))
        return _EventKey(bytes([_EVENT_VERSION]) + self._master_id + wrapped, AESGCM(raw))

    def _unwrapped(self, header: bytes, topic: str) -> AESGCM:
        master = self._masters.get(header[1:5])
        if master is None:
            raise SealBroken(f"{topic}: sealed with a master key that is not known here")
        wrapped = header[5:]
        try:
            cipher = AESGCM(master.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _event_key_context(topic)))
        except InvalidTag as error:
            raise SealBroken(f"{topic}: a data key does not open for its topic") from error
        if len(self._opening) >= _MOST_EVENT_KEYS:
            self._opening.clear()
        self._opening[header, topic] = cipher
        return cipher


class _EventKey:
    """A data key with which a process seals events of a topic for a while."""

    def __init__(self, header: bytes, cipher: AESGCM) -> None:
        self.header = header
        self.cipher = cipher
        self.left = _EVENT_KEY_VALUES
        self._until = time.monotonic() + _EVENT_KEY_S

    def is_used_up(self) -> bool:
        return self.left <= 0 or time.monotonic() > self._until


def _event_context(topic: str, event_id: str) -> bytes:
    return f"event\0{topic}\0{event_id}".encode()


def _event_key_context(topic: str) -> bytes:
    return f"event data key\0{topic}".encode()
