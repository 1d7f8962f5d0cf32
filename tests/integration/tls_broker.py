"""A Kafka of the tests' own that also listens by TLS, with logins by PLAIN and SCRAM."""

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from headwater.settings import Settings, load_settings
from local.credentials import read_secret
from local.kafka_users import SECRETS
from tests.integration.api_server import free_port
from tests.integration.broker import Broker
from tests.integration.certificate import Authority

SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


class TlsBroker(Broker):
    """Its certificate is for 127.0.0.1 and no other name."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority = authority
        self.tls_port = free_port()
        identity = authority.vouch_for("127.0.0.1")
        users = " ".join(f'user_{name}="{read_secret(secret)}"' for name, secret in SECRETS.items())
        path = folder / "server.properties"
        text = path.read_text()
        text = re.sub(
            r"^((advertised\.)?listeners=.*)$",
            rf"\1,SASL_SSL://127.0.0.1:{self.tls_port}",
            text,
            flags=re.MULTILINE,
        )
        text = re.sub(r"^(listener\.security\.protocol\.map=.*)$", r"\1,SASL_SSL:SASL_SSL", text, flags=re.M)
        listener = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "plain.sasl.jaas.config": f"{PLAIN_MODULE} required {users};",
            "scram-sha-512.sasl.jaas.config": f"{SCRAM_MODULE} required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(identity.both),
        }
        lines = [f"listener.name.sasl_ssl.{key}={value}\n" for key, value in listener.items()]
        path.write_text(text + "".join(lines))

    def settings(self, who: str, **changes: Any) -> Settings:
        """Of this principal, by the listener without TLS that the local stack has, too."""
        own = {
            "bootstrap": self.sasl,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "username": who,
            "password": SecretStr(read_secret(SECRETS[who])),
        }
        base = load_settings("staging")
        return base.model_copy(update={"kafka": base.kafka.model_copy(update=own | changes)})

    def tls_settings(self, who: str, **changes: Any) -> Settings:
        """Of this principal, by TLS with the right authority."""
        own = {
            "bootstrap": f"127.0.0.1:{self.tls_port}",
            "security_protocol": "SASL_SSL",
            "ca_file": self.authority.file,
        }
        return self.settings(who, **own | changes)

    def tool(self, *argv: str) -> tuple[str, ...]:
        """A program of Kafka's own, in its JVM."""
        return self._java("128m", *argv)
