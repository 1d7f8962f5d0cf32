"""Certificates for servers of the tests."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headwater.clock import utc_now

HERE = ("localhost", "127.0.0.1")


def vouching_for_itself(folder: Path, name: str) -> Path:
    """A file with a certificate for this host, valid for an hour, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _begun(name, name, key).add_extension(_names(name), critical=False).sign(key, hashes.SHA256())
    return _written(folder / "both.pem", _text(key) + _text(made))


@dataclass(frozen=True)
class Identity:
    """A server's certificate and its key, each in a file, and both in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """A certificate authority that lives for an hour; `file` is what clients are given."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = _written(folder / f"{name}.pem", _text(made))

    def vouch_for(self, *names: str) -> Identity:
        """A certificate for these hosts: names, or addresses as text."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(names[0], self._name, key)
            .add_extension(_names(*names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self._folder / f"{self._name}-{names[0]}"
        return Identity(
            _written(stem.with_suffix(".crt"), _text(made)),
            _written(stem.with_suffix(".key"), _text(key)),
            _written(stem.with_suffix(".both"), _text(key) + _text(made)),
        )


def _begun(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    who, whose = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer))
    return (
        x509.CertificateBuilder(whose, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(hours=1))
        .not_valid_after(utc_now() + timedelta(hours=1))
    )


def _names(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_name(name) for name in names])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _text(part: ec.EllipticCurvePrivateKey | x509.Certificate) -> bytes:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(serialization.Encoding.PEM)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return part.private_bytes(*form)


def _written(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path
