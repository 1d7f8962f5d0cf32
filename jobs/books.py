"""The books of billing: the rate card, which months are closed, the lines so far. Whoever writes in them has
them to himself: a month cannot be closed while lines of it are being counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from headwater.locks import commit_lock
from headwater.settings import Settings
from headwater.tables import exists, read_table, read_whole
from jobs.queries import Context
from schemas.gold import BILLING_DAILY, BILLING_PERIODS
from schemas.rates import RateCard, read_rates
from transformations.billing import FIRST_MONTH, Books
from transformations.kpi.base import Kpi

_LOCK = "billing.books"


def rate_card(settings: Settings) -> RateCard:
    """The card that billing.rates names. Raises SetupError where it is wrong."""
    return read_rates(settings.rates_path)


@contextmanager
def books_held(context: Context, kpi: Kpi) -> Iterator[Kpi]:
    """The KPI by the books as they are, which nobody else changes meanwhile; one without books as it is."""
    if kpi.books is None:
        yield kpi
        return
    with held(context.settings):
        card = rate_card(context.settings)
        month = open_month(context)
        lines = None
        if month > FIRST_MONTH:  # else nothing was billed for good
            lines = read_table(context.spark, context.settings, BILLING_DAILY.full_name)
        yield kpi.books(Books(card.rates, card.currency, month, lines))


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Wait for the books, then have them to oneself. On an object store one scheduler runs both jobs."""
    with commit_lock(settings.lake_root, _LOCK):
        yield


def open_month(context: Context) -> date:
    """The first month that is not closed, by its first day."""
    spark, settings = context.spark, context.settings
    if not exists(spark, settings, BILLING_PERIODS.full_name):
        return FIRST_MONTH
    months = read_whole(spark, settings, BILLING_PERIODS.full_name, ["month"])["month"].to_pylist()
    return after(max(months)) if months else FIRST_MONTH


def after(month: date) -> date:
    """The month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
