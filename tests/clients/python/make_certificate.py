"""A self-signed certificate for 127.0.0.1 that a client can be told to trust: `make_certificate.py FOLDER`.

Runs in the clients' environment, where `cryptography` is; the server needs none.
"""

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509  # type: ignore[import-not-found, unused-ignore]
from cryptography.hazmat.primitives import hashes, serialization  # type: ignore[import-not-found, unused-ignore]
from cryptography.hazmat.primitives.asymmetric import ec  # type: ignore[import-not-found, unused-ignore]


def main(folder: Path) -> None:
    """Write cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "voiceagent tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
