import datetime as dt
import ipaddress

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devices.client.errors import PlatformUnreachable
from devices.client.platform import Platform, PlatformAddresses, Tls
from tests.unit.devices.client.registered import PLAN, frames, known_reader, quick_policy
from tests.unit.devices.fake_platform import FakePlatform


def _self_signed() -> tuple[bytes, bytes]:
    """PEM of a key and of its certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


async def test_frames_travel_over_tls_and_only_to_the_trusted_platform(fake: FakePlatform) -> None:
    key, certificate = _self_signed()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(fake.handlers())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    addresses = PlatformAddresses(device=f"127.0.0.1:{port}", measurement=f"127.0.0.1:{port}")
    async with (
        Platform(addresses, Tls(root_certificates=certificate)) as platform,
        known_reader(fake, platform).session(PLAN) as session,
    ):
        await session.send(frames(1)[0])
    assert len(fake.sessions[session.session_id].frames) == 1
    _, foreign = _self_signed()
    async with Platform(addresses, Tls(root_certificates=foreign)) as platform:
        with pytest.raises(PlatformUnreachable):
            await known_reader(fake, platform, quick_policy(give_up_after_s=0.3)).start_session(PLAN)
    await server.stop(grace=None)
