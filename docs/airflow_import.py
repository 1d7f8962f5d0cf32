"""An example for Airflow 3: each night's export of contacts is imported by `jobs import-files`.

The run id is made of the schedule's day. So a task that is tried again goes on with the same job, and a file
that was imported is not imported again. Exit codes 1 (an outage) and 4 are worth a retry. 2 (set-up) and 3
(the file is refused) are not: they fail the task at once, for somebody to look.
"""

import subprocess
from datetime import datetime, timedelta

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import dag, task

PROJECT = "/opt/headwater"
COMMAND = (
    ".venv/bin/python -m jobs import-files --file /srv/exports/contacts-{day}.csv.gz --dataset contacts "
    "--tenant acme --run-id contacts-{day}"
)
USELESS_TO_RETRY = (2, 3)


@dag(
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
)
def nightly_contacts() -> None:
    """One task a night."""

    @task
    def import_contacts(ds_nodash: str = "") -> None:
        words = COMMAND.format(day=ds_nodash).split()
        code = subprocess.run(words, cwd=PROJECT, check=False).returncode  # noqa: S603 - words of this file
        if code in USELESS_TO_RETRY:
            raise AirflowFailException(f"exit code {code}")
        if code:
            raise AirflowException(f"exit code {code}")

    import_contacts()


nightly_contacts()
