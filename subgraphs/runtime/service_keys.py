"""Key pairs of services (ES256): with which a process signs as a service, and by which others check that it did.

Private keys are files `<service>.pem` in a folder that only the process reads (`SERVICE_KEYS_DIR`), or the one key in
`SERVICE_KEY`. Public keys are files `<service>.pem` in a folder that is deployed as configuration to every process
(`SERVICE_PUBLIC_KEYS_DIR`): the deployment says whose key is whose, so an address that answers for another service, or
a name server that points elsewhere, proves nothing. A public file may hold several keys: while a key is replaced, the
old one and the new one are both valid. The folder is read again when it changes, so a key that is removed from it
stops being valid within seconds, in running processes too.

A process needs the private keys of all services of its groups: it runs the commands of the whole group, whichever of
the group's services it was started for.

Source: RFC 7518, section 3.4 (ES256); RFC 7638 (the key id is the thumbprint of the public key).
"""

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from joserfc.jwk import ECKey

PUBLIC_FOLDER = "public"
"""Of a folder of private keys: where the public ones are unless a variable says otherwise."""

_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z ]+)-----.*?-----END (?P=label)-----", re.DOTALL)
_MOST_FILE_BYTES = 64 * 1024
_MOST_KEYS = 8
_LOOK_AGAIN_S = 1.0
_LOOK_FOR_UNKNOWN_S = 0.1
_ALGORITHM = ec.ECDSA(SHA256())

_log = structlog.get_logger("service keys")


class ServiceKeyError(Exception):
    """A key of a service is missing or cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class PublicServiceKey:
    """A key by which signatures of a service are checked."""

    service: str
    kid: str
    jwk: ECKey
    _key: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, service: str, key: ec.EllipticCurvePublicKey) -> "PublicServiceKey":
        """The key must be on the curve P-256."""
        jwk = ECKey.import_key(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return cls(service, jwk.thumbprint(), jwk, key)

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether the service signed this content (ASN.1 DER signature)."""
        try:
            self._key.verify(signature, content, _ALGORITHM)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> str:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key pair with which a process signs as a service. Its `repr` does not show the key."""

    public: PublicServiceKey
    jwk: ECKey
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, service: str, key: ec.EllipticCurvePrivateKey) -> "ServiceKey":
        """The key must be on the curve P-256."""
        public = PublicServiceKey.of(service, key.public_key())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(public, ECKey.import_key(pem), key)

    @classmethod
    def generate(cls, service: str) -> "ServiceKey":
        return cls.of(service, ec.generate_private_key(ec.SECP256R1()))

    def __repr__(self) -> str:
        return f"ServiceKey({self.public.service!r}, kid={self.kid!r})"

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, content: bytes) -> bytes:
        """An ASN.1 DER signature of the content."""
        return self._key.sign(content, _ALGORITHM)

    def pem(self) -> str:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class SigningKeys:
    """The services that this process may sign as."""

    def __init__(self, keys: Iterable[ServiceKey]) -> None:
        self._keys: dict[str, ServiceKey] = {}
        for key in keys:
            self._keys.setdefault(key.public.service, key)  # the first of a service signs

    @classmethod
    def read(cls, folder: Path, services: Iterable[str]) -> "SigningKeys":
        """The keys `<service>.pem` of a folder; of several in one file the first one signs.

        Raises:
            ServiceKeyError: a file is missing or holds no such key.
        """
        return cls(key for service in services for key in _private_keys(folder / f"{service}.pem", service))

    @classmethod
    def single(cls, service: str, pem: str) -> "SigningKeys":
        """Raises: ServiceKeyError: it is not a private key in PEM."""
        # Some ways to set a variable keep line feeds as the two characters \\n.
        return cls(_private_blocks(pem.replace("\\n", "\n"), service, origin="SERVICE_KEY"))

    def of(self, service: str) -> ServiceKey:
        """Raises: ServiceKeyError: this process holds no key of that service."""
        key = self._keys.get(service)
        if key is None:
            raise ServiceKeyError(f"this process holds no key of {service}; it may sign as {', '.join(self._keys)}")
        return key

    def services(self) -> list[str]:
        """The services that this process may sign as, by name."""
        return sorted(self._keys)

    def public(self) -> list[PublicServiceKey]:
        return [key.public for key in self._keys.values()]


class PublicKeys:
    """Whose signatures are believed: public keys by service and key id."""

    def __init__(self, keys: Iterable[PublicServiceKey] = ()) -> None:
        self._keys = _by_service(keys)

    def find(self, service: str, kid: str) -> PublicServiceKey | None:
        """The key of this service with this id, if it is valid now."""
        return self._keys.get(service, {}).get(kid)


class PublicKeyFolder(PublicKeys):
    """The public keys of a folder, read again when its files change (looked at once a second at most, and ten times for unknown keys).

    A file that cannot be read any more leaves the keys of its service as they were, and is logged: a half-written file
    must not cut a service off. A file that is gone takes the keys of its service with it.

    Raises:
        ServiceKeyError: the folder cannot be read, has no key, or holds what is no public key.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = time.monotonic()
        self._seen = self._signature()
        if not self._seen:
            raise ServiceKeyError(f"{folder} has no public key of a service; each has a file <service>.pem")
        super().__init__(key for path in self._files() for key in _public_keys(path))

    def find(self, service: str, kid: str) -> PublicServiceKey | None:
        """The key of this service with this id, if the folder holds it now.

        For a key that is not known the folder is looked at sooner: it may have been published a moment ago.
        """
        now = time.monotonic()
        known = super().find(service, kid) is not None
        if now - self._looked_at > (_LOOK_AGAIN_S if known else _LOOK_FOR_UNKNOWN_S):
            self._looked_at = now
            self._read_changes()
        return super().find(service, kid)

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.glob("*.pem") if path.is_file())
        except OSError as error:
            raise ServiceKeyError(f"{self._folder} cannot be read: {error.strerror}") from error

    def _signature(self) -> dict[Path, tuple[int, int, int]]:
        found = {}
        for path in self._files():
            try:
                status = path.stat()
            except OSError:  # gone since it was listed
                continue
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def _read_changes(self) -> None:
        try:
            seen = self._signature()
        except ServiceKeyError as error:
            _log.error("public keys of services cannot be read; those known stay valid", error=str(error))
            return
        if seen == self._seen:
            return
        keys = dict(self._keys)
        for path in self._seen.keys() - seen.keys():
            keys.pop(path.stem, None)
        for path in (path for path, status in seen.items() if self._seen.get(path) != status):
            try:
                keys |= _by_service(_public_keys(path))
            except ServiceKeyError as error:
                _log.error("a public key cannot be read; those known of the service stay valid", error=str(error))
        self._keys, self._seen = keys, seen
        _log.info("public keys of services read again", services=len(keys))


def _by_service(keys: Iterable[PublicServiceKey]) -> dict[str, dict[str, PublicServiceKey]]:
    found: dict[str, dict[str, PublicServiceKey]] = {}
    for key in keys:
        found.setdefault(key.service, {})[key.kid] = key
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise ServiceKeyError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > _MOST_FILE_BYTES:
        raise ServiceKeyError(f"{path} has more than {_MOST_FILE_BYTES} bytes; it should hold keys in PEM")
    return raw.decode(errors="replace")


def _private_keys(path: Path, service: str) -> Sequence[ServiceKey]:
    return _private_blocks(_text(path), service, origin=str(path))


def _private_blocks(text: str, service: str, *, origin: str) -> Sequence[ServiceKey]:
    keys = []
    for block in _BLOCK.finditer(text):
        if "PRIVATE KEY" not in block["label"]:
            continue  # `openssl ecparam -genkey` writes the curve's parameters before the key
        try:
            key = load_pem_private_key(block[0].encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ServiceKeyError(f"{origin} holds a private key that cannot be read (is it encrypted?)") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ServiceKeyError(f"{origin} holds a private key that is not of ES256 (P-256)")
        keys.append(ServiceKey.of(service, key))
    if not 0 < len(keys) <= _MOST_KEYS:
        raise ServiceKeyError(f"{origin} holds {len(keys)} private keys in PEM; it takes 1 to {_MOST_KEYS}")
    return keys


def _public_keys(path: Path) -> Sequence[PublicServiceKey]:
    keys = []
    for block in _BLOCK.finditer(_text(path)):
        if block["label"] != "PUBLIC KEY":
            raise ServiceKeyError(f"{path} holds a {block['label'].lower()}; only public keys belong there")
        try:
            key = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ServiceKeyError(f"{path} holds a public key that cannot be read") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ServiceKeyError(f"{path} holds a public key that is not of ES256 (P-256)")
        keys.append(PublicServiceKey.of(path.stem, key))
    if not 0 < len(keys) <= _MOST_KEYS:
        raise ServiceKeyError(f"{path} holds {len(keys)} public keys in PEM; it takes 1 to {_MOST_KEYS}")
    return keys


def make_missing_keys(folder: Path, services: Iterable[str]) -> None:
    """Make the key pairs that a folder lacks: private keys (mode 0600) in it, public ones in its folder `public`.

    Safe for processes that start together: each service gets one key, whoever makes it.

    Raises:
        ServiceKeyError: the folder cannot be written, or a key in it cannot be used.
    """
    public = folder / PUBLIC_FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public.mkdir(mode=0o755, exist_ok=True)
        for service in services:
            path = folder / f"{service}.pem"
            if not path.exists():
                _write_new(path, ServiceKey.generate(service).pem(), mode=0o600)
            if not (public / path.name).exists():
                pems = "".join(key.public.pem() for key in _private_keys(path, service))
                _write_new(public / path.name, pems, mode=0o644)
    except OSError as error:
        raise ServiceKeyError(
            f"{error.filename or folder} cannot be written ({error.strerror}); set SERVICE_KEYS_DIR to a folder of keys"
        ) from error


def replace_key(folder: Path, service: str) -> ServiceKey:
    """A new key pair of a service: its private key signs from the next start on, and the old public keys stay valid.

    Raises:
        ServiceKeyError: the service has no key there, or the folder cannot be written.
    """
    path, public = folder / f"{service}.pem", folder / PUBLIC_FOLDER / f"{service}.pem"
    _private_keys(path, service)
    valid = _public_keys(public)
    new = ServiceKey.generate(service)
    try:
        # Published before it signs. The oldest go when there are too many to hold.
        _write(public, "".join(key.pem() for key in (new.public, *valid[: _MOST_KEYS - 1])), mode=0o644)
        _write(path, new.pem(), mode=0o600)
    except OSError as error:
        raise ServiceKeyError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return new


def retire_old_keys(folder: Path, service: str) -> int:
    """Remove the public keys of a service whose private key is not in use any more; how many.

    Raises:
        ServiceKeyError: the service has no key there, or the folder cannot be written.
    """
    public = folder / PUBLIC_FOLDER / f"{service}.pem"
    used = [key.public for key in _private_keys(folder / f"{service}.pem", service)]
    valid = _public_keys(public)
    try:
        _write(public, "".join(key.pem() for key in used), mode=0o644)
    except OSError as error:
        raise ServiceKeyError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return len({key.kid for key in valid} - {key.kid for key in used})


def _temporary(path: Path, content: str, *, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _write(path: Path, content: str, *, mode: int) -> None:
    """Whole or not at all."""
    _temporary(path, content, mode=mode).replace(path)


def _write_new(path: Path, content: str, *, mode: int) -> None:
    """Whole or not at all, and not over a file that another process has made meanwhile."""
    temporary = _temporary(path, content, mode=mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def in_memory(services: Iterable[str]) -> tuple[SigningKeys, PublicKeys]:
    """New keys of some services that no file holds, and their public keys."""
    keys: Mapping[str, ServiceKey] = {service: ServiceKey.generate(service) for service in services}
    return SigningKeys(keys.values()), PublicKeys(key.public for key in keys.values())
