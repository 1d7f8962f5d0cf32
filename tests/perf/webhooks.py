"""How fast is a connector? `python -m tests.perf.webhooks [--leads N] [--concurrency N]`, with the stack up.

Leads in a database of its own → the loop deliver.leads.webhook-marketing, in this process → the receiver, in
another. Prints deliveries a second and the milliseconds of CPU that one costs on either side, as JSON.
"""

import argparse
import json
import tempfile
import time

import psutil

from headwater import delta_log
from headwater.settings import Settings, load_settings
from headwater.tables import table_path
from jobs.webhooks import Webhook
from local import demo_connectors
from local.credentials import read_secret
from local.demo_processes import Child
from local.environment import RECEIVER
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from tests.integration.outbox_harness import Leads, context, lead, migrated_database, settings_of

NAME = "marketing"


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--leads", type=int, default=2000)
    options.add_argument("--concurrency", type=int, default=8)
    asked = options.parse_args()
    receiver = Child("receiver", "local", "receiver")
    try:
        while not demo_connectors.answers():
            receiver.check()
            time.sleep(0.1)
        with migrated_database() as database, tempfile.TemporaryDirectory() as lake:
            there = settings(database, lake, asked.concurrency)
            print(json.dumps(measure(there, asked.leads, psutil.Process(receiver.pid))), flush=True)
    finally:
        receiver.kill()


def settings(database: str, lake: str, concurrency: int) -> Settings:
    """The connector as base.yaml has it, at the receiver."""
    changes = {
        "url": f"http://127.0.0.1:{RECEIVER.number}/{NAME}",
        "secret": read_secret("webhook"),
        "allow_private": ["127.0.0.0/8"],
        "concurrency": concurrency,
    }
    usual = load_settings("local").connectors[NAME]
    there = type(usual).model_validate(usual.model_dump() | changes)
    return settings_of(database, lake=lake, connectors={NAME: there})


def measure(there: Settings, count: int, other: psutil.Process) -> dict[str, float]:
    """Deliver so many leads; `other` is the receiver."""
    delta_log.create(table_path(there, DEAD_LETTERS.full_name), LETTERS, [], {})
    loop = Webhook(context(there), NAME)
    loop.prepare()
    leads = Leads(there)
    leads.write(*(lead(f"k{number}") for number in range(count)))
    began, own, theirs = time.monotonic(), time.process_time(), sum(other.cpu_times()[:2])
    while loop.step():
        pass
    seconds = time.monotonic() - began
    cpu = time.process_time() - own, sum(other.cpu_times()[:2]) - theirs
    (done,) = leads.ask("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'")[0]
    leads.close()
    loop.close()
    return {
        "delivered": done,
        "per_s": round(done / seconds, 1),
        "cpu_ms_sender": round(1000 * cpu[0] / done, 2),
        "cpu_ms_receiver": round(1000 * cpu[1] / done, 2),
    }


if __name__ == "__main__":
    main()
