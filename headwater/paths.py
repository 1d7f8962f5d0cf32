"""Where a table lies. Without Spark, for those who read the lake by other means."""

from headwater.settings import Settings


def table_path(settings: Settings, full_name: str) -> str:
    """<lake>/<layer>/<table>."""
    return f"{settings.lake_root}/{full_name.replace('.', '/')}"
