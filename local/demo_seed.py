"""`python -m local seed`: sample traffic for a stack that runs, with a line of progress now and then."""

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headwater.errors import HeadwaterError, SetupError
from headwater.settings import load_settings
from local.credentials import DEMO_KEYS, read_secret
from local.demo_send import Tally, send_http, send_kafka
from local.places import say
from local.traffic import Mix, Way, traffic
from local.traffic_crm import TOPICS, crm
from local.traffic_interactions import interactions
from sources.registry import register, subject_number

DOMAINS = ("leads", "interactions", "crm")
_TELL_EVERY_S = 2.0


def send(domain: str, n: int, *, rate: float, seed: int, broken: float, way: Way) -> None:
    """Send, then print the sender's count as JSON. HeadwaterError when an answer was not as it should be."""
    if domain not in DOMAINS:
        raise SetupError(f"there is no sample traffic for {domain!r}; known: {', '.join(DOMAINS)}")
    if way is Way.HTTP and domain != "leads":
        raise SetupError(f"{domain} has no HTTP API: leave out --via")
    settings = load_settings()
    run = f"seed-{secrets.token_hex(4)}-"
    if domain == "leads":
        events = traffic(way, n, run=run, seed=seed, mix=Mix(broken=broken))
    elif domain == "interactions":
        events = interactions(n, run=run, seed=seed, mix=Mix(broken=broken, no_consent=0))
    else:
        register(settings.registry)
        numbers = {topic: subject_number(settings.registry, topic) for topic in TOPICS}
        events = crm(n, numbers, run=run, seed=seed, mix=Mix(broken=broken, no_consent=0))
    tally = Tally()
    with ThreadPoolExecutor(1) as pool:
        if way is Way.HTTP:
            keys = {tenant: read_secret(name) for name, (_, tenant) in DEMO_KEYS.items()}
            url = f"http://127.0.0.1:{settings.api.port}"
            sending = pool.submit(send_http, url, keys, events, rate, tally)
        else:
            sending = pool.submit(send_kafka, settings, events, rate, tally)
        told = time.monotonic()
        while not sending.done():
            time.sleep(0.1)
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                say(f"sent {tally.total:,} of {n:,}, answered {sum(tally.answers.values()):,}")
        sending.result()
    print(json.dumps(_summary(run, tally)))
    if tally.unexpected:
        raise HeadwaterError(f"unexpected answers: {dict(tally.unexpected)}")


def _summary(run: str, tally: Tally) -> dict[str, Any]:
    return {
        "run": run,
        "sent": dict(tally.sent),
        "answers": dict(tally.answers),
        "events_per_s": round(tally.per_second),
    }
