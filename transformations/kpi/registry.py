"""KPIS: which gold tables there are. A KPI is a file, a line here and a table in schemas/gold.py."""

from transformations.kpi import (
    billing_usage,
    frontend_hourly,
    session_kpis,
    tool_hourly,
    widget_hourly,
)
from transformations.kpi.base import Kpi

KPIS: dict[str, Kpi] = {
    "session_kpis": session_kpis.KPI,
    "billing_usage": billing_usage.KPI,
    "frontend_hourly": frontend_hourly.KPI,
    "widget_hourly": widget_hourly.KPI,
    "tool_hourly": tool_hourly.KPI,
}
