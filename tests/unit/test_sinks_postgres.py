"""What a fault of PostgreSQL means to the sink, without a server."""

import psycopg
import pytest

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.postgres import classified, sqlstate_of
from sinks.postgres_lines import CopyTarget

OUTAGES = "08006 08001 53300 57P01 57P03 57014 58030 25006 40001 40P01 55P03 XX000".split()
SETUP = "42P01 42703 42501 28P01 28000 3D000 3F000 0A000".split()


@pytest.mark.parametrize("sqlstate", OUTAGES)
def test_an_outage_is_transient(sqlstate: str) -> None:
    assert isinstance(classified(sqlstate, "leads"), TransientError)


@pytest.mark.parametrize("sqlstate", SETUP)
def test_a_missing_table_right_or_login_is_a_setup_fault_that_says_what_to_mend(sqlstate: str) -> None:
    fault = classified(sqlstate, "leads")
    assert isinstance(fault, SetupError)
    assert "run `python -m jobs migrate`" in str(fault) or "check postgres.dsn" in str(fault)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('FATAL:  password authentication failed for user "x"', SetupError),
        ('FATAL:  database "x" does not exist', SetupError),
        ("connection refused", TransientError),
        ("timeout expired", TransientError),
        ("server closed the connection unexpectedly", TransientError),
    ],
)
def test_a_fault_without_sqlstate_is_told_by_its_words(text: str, kind: type[HeadwaterError]) -> None:
    assert isinstance(classified(sqlstate_of(psycopg.OperationalError(text)), "leads"), kind)


def test_our_sentence_never_quotes_the_servers() -> None:
    fault = psycopg.OperationalError("Failing row contains (ada@example.com)")
    assert "ada" not in str(classified(sqlstate_of(fault), "leads"))


def test_a_copy_target_does_not_show_its_password() -> None:
    assert "geheim" not in repr(CopyTarget("host=h password=geheim", b"COPY"))
