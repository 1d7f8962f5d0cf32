"""Numbers in a row → a small picture of them, as SVG that says in words what it shows."""

from collections.abc import Sequence

from jinja2 import Template
from markupsafe import Markup

_WIDTH, _HEIGHT = 160.0, 40.0
_DOT = 2.5
_SVG = Template(
    '<svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ told }}"><title>{{ told }}</title>'
    '<line x1="0" x2="{{ width }}" y1="{{ height }}" y2="{{ height }}"/>'
    '{% if points | length > 1 %}<polyline points="{{ points | join(" ") }}"/>{% endif %}'
    '<circle cx="{{ last[0] }}" cy="{{ last[1] }}" r="{{ dot }}"/></svg>',
    autoescape=True,
)


def chart(values: Sequence[float], low: float, high: float, told: str) -> Markup:
    """A line through the values, left to right, between `low` and `high`; nothing where there are none.

    `told` is what it shows, for those who do not see it.
    """
    if not values:
        return Markup("")
    places = [(_across(n, len(values)), _up(value, low, high)) for n, value in enumerate(values)]
    points = [f"{x},{y}" for x, y in places]
    found = _SVG.render(width=_WIDTH, height=_HEIGHT, points=points, last=places[-1], told=told, dot=_DOT)
    return Markup(found)  # noqa: S704 - rendered with everything escaped


def _across(number: int, count: int) -> float:
    return round(_WIDTH * number / (count - 1), 1) if count > 1 else _WIDTH


def _up(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.0
    return round(_HEIGHT * (1 - min(1.0, max(0.0, share))), 1)
