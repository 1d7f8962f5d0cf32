"""KPIS: which gold tables there are, each behind the one that it is made of.

A KPI is a file, a line here and a table in schemas/gold.py.
"""

from transformations.kpi import (
    billing_daily,
    billing_usage,
    frontend_hourly,
    session_kpis,
    tool_hourly,
    usage_hourly,
    widget_hourly,
)
from transformations.kpi.base import Kpi

KPIS: dict[str, Kpi] = {
    "session_kpis": session_kpis.KPI,
    "usage_hourly": usage_hourly.KPI,
    "billing_usage": billing_usage.KPI,
    "billing_daily": billing_daily.KPI,
    "frontend_hourly": frontend_hourly.KPI,
    "widget_hourly": widget_hourly.KPI,
    "tool_hourly": tool_hourly.KPI,
}
