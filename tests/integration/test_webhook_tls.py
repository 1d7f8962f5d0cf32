"""A connector by TLS: dialled at a checked address, its certificate verified by its name."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.clock import utc_now
from local.receiver import Receiver
from sinks.webhook.addresses import Allowed
from sinks.webhook.payload import headers
from sinks.webhook.transport import Answer, CheckedBackend, Sender, checked_url
from tests.integration.certificate import vouching_for_itself

SECRET = "geheim-of-the-test"
NAME = "hook.example.test"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return vouching_for_itself(tmp_path, NAME)


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    with Receiver(0, SECRET) as made:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def post(receiver: Receiver, certificate: Path, name: str, allowed: Allowed) -> Answer:
    """To https://name, which resolves to this machine."""

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def send() -> Answer:
        url = checked_url("crm", f"https://{name}:{receiver.server_address[1]}/hook")
        context = ssl.create_default_context(cafile=str(certificate))
        async with Sender(url, CheckedBackend(allowed, tls=True, resolve=here), context, 5) as sender:
            return await sender.post(headers("crm", "e", SECRET, int(utc_now().timestamp()), b"{}"), b"{}")

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("name", "listed", "answer"),
    [
        (NAME, ["127.0.0.0/8"], Answer(200)),
        ("other.example.test", ["127.0.0.0/8"], Answer(error="connection")),
        ("127.0.0.1", ["127.0.0.0/8"], Answer(error="connection")),
        (NAME, [], Answer(error="address_refused")),
    ],
)
def test_the_certificate_must_be_the_names_and_the_address_allowed(
    receiver: Receiver, certificate: Path, name: str, listed: list[str], answer: Answer
) -> None:
    assert post(receiver, certificate, name, Allowed.parse("crm", listed)) == answer
    assert len(receiver.seen()) == (answer.status is not None)
