"""Numbers of the ledger → freshness, volume, duplicate and dead share of each stream and tenant, held against
limits and against the weeks before. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from headwater.quality_settings import LedgerLimits
from schemas.expectations import GATE, WARN
from sources.ledger_days import Counts, Series

# What is less than this is no news, however steady the days were: a twentieth of the volume, and a row.
_STEADY_SHARE, _STEADY_ROWS = 0.05, 1.0
_STEADY_POINTS = 0.005  # of a share


@dataclass(frozen=True)
class Check:
    """A measure of a stream and tenant. `value` is in the measure's unit: hours, rows, or a share of 1.

    `z`: of the last complete day; None where there are too few days to say. `message`: why it failed.
    """

    stream: str
    tenant_id: str
    measure: str
    value: float
    z: float | None
    severity: str
    message: str = ""

    @property
    def passed(self) -> bool:
        return not self.message


def robust_z(value: float, before: Sequence[float], least_spread: float) -> float:
    """The modified z-score 0.6745·(x - median)/MAD, by Iglewicz and Hoaglin, How to Detect and Handle
    Outliers (ASQC, 1993), who call what is beyond 3.5 an outlier. MAD, the median of the absolute
    deviations, counts as `least_spread` (above 0) at least: where most days are the same it is 0."""
    middle = median(before)
    spread = median([abs(other - middle) for other in before])
    return 0.6745 * (value - middle) / max(spread, least_spread)


def ledger_checks(found: Sequence[Series], now: datetime, limits: LedgerLimits) -> list[Check]:
    """Every measure that something can be said of, stream by stream."""
    return [check for series in found for check in _checks(series, now, limits.of(series.stream))]


def _checks(series: Series, now: datetime, limits: LedgerLimits) -> Iterator[Check]:
    def check(measure: str, value: float, z: float | None, message: str) -> Check:
        severity = GATE if measure in limits.gates else WARN
        return Check(series.stream, series.tenant_id, measure, value, z, severity, message)

    yesterday = now.date() - timedelta(days=1)
    hours = (now - series.last_at).total_seconds() / 3600
    late = f"no row for {hours:.1f} h" if hours > limits.max_age_hours else ""
    yield check("freshness", max(0.0, hours), None, late)
    z = _z(series, yesterday, limits, _volume)
    rows = _volume(series.days.get(yesterday, Counts()))
    unusual = f"{rows:.0f} rows on {yesterday}, z {z:.1f}" if z is not None and abs(z) > limits.max_z else ""
    yield check("volume", rows, z, unusual)
    shares = (
        ("duplicate_share", _duplicates, limits.max_duplicate_share),
        ("dead_share", _dead, limits.max_dead_share),
    )
    for measure, share, most in shares:
        if series.recent.in_rows < limits.min_rows:
            continue
        value, z = share(series.recent), _z(series, yesterday, limits, share)
        over = f"{value:.1%} of the last 24 hours, {most:.1%} allowed" if value > most else ""
        if z is not None and z > limits.max_z:  # fewer are welcome
            over = over or f"unusual on {yesterday}, z {z:.1f}"
        yield check(measure, value, z, over)


def _z(
    series: Series, yesterday: date, limits: LedgerLimits, measure: Callable[[Counts], float]
) -> float | None:
    """Of yesterday against the days before, from the first on that has rows; a day without them counts as a
    volume of nothing, and says nothing of a share."""
    shares = measure is not _volume
    first = min(series.days)
    span = min((yesterday - first).days, limits.weeks * 7)
    days = [series.days.get(yesterday - timedelta(days=back), Counts()) for back in range(1, span + 1)]
    last = series.days.get(yesterday, Counts())
    if shares:
        days = [day for day in days if day.in_rows >= limits.min_rows]
    if len(days) < limits.min_days or (shares and last.in_rows < limits.min_rows):
        return None
    before = [measure(day) for day in days]
    least = _STEADY_POINTS if shares else max(_STEADY_ROWS, _STEADY_SHARE * median(before))
    return robust_z(measure(last), before, least)


def _volume(counts: Counts) -> float:
    return float(counts.in_rows)


def _duplicates(counts: Counts) -> float:
    return counts.duplicate / counts.in_rows if counts.in_rows else 0.0


def _dead(counts: Counts) -> float:
    return counts.dead / counts.in_rows if counts.in_rows else 0.0
