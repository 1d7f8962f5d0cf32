"""Numbers as text: one text for each value."""

from decimal import Decimal

LONGEST_PLACES = 400


def fits(number: Decimal, places: int) -> bool:
    """Whether it has no more than so many places behind the point that say something."""
    _, digits, exponent = number.as_tuple()
    beyond = -int(exponent) - places
    return beyond <= 0 or not any(digits[-beyond:])


def plain(number: Decimal) -> str | None:
    """Digits with a point where it is needed: no exponent, no needless zero, no negative zero.

    None for a number of more than LONGEST_PLACES places before or behind the point.
    """
    if not number.is_finite() or abs(int(number.as_tuple().exponent)) > LONGEST_PLACES:
        return None
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
