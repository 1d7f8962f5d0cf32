"""The form of every text, and what counts as white space at its ends: the same in the API and in refine; and
the form of names."""

import re
import unicodedata

# The characters that Python's str.strip() removes.
WHITESPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
MAX_MARKS = 30  # combining marks in a row, as UAX #15 §13 has it
_PIECE = 24  # composing adds at most 3 marks to a piece: it is not broken up a second time
_JOINER = "\u034f"  # COMBINING GRAPHEME JOINER: invisible, and no mark is sorted across it
_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONG_RUN = re.compile(rb"[^\0]{%d,}" % (MAX_MARKS + 1))
# No character before U+0300 is a combining mark: most texts are known by this to have no long run.
_MAY_HAVE_LONG_RUN = re.compile(f"[\u0300-\U0010ffff]{{{MAX_MARKS + 1}}}")


def nfc(text: str) -> str:
    """NFC of the text, in time that grows with its length; applied again it changes nothing.

    Normalising sorts combining marks: a second for a run of 32,000, growing with its square. So a run of more
    than MAX_MARKS is broken up first, as the Stream-Safe Text Format (UAX #15 §13) does.
    """
    if text.isascii() or (not _MAY_HAVE_LONG_RUN.search(text) and unicodedata.is_normalized("NFC", text)):
        return text
    composed = unicodedata.normalize("NFC", _broken_up(text))
    if composed == text:
        return composed  # nor was it broken up
    # A mark may be taken apart, a letter's own marks be sorted among those that follow: the run has grown.
    return nfc(composed) if _LONG_RUN.search(_classes(composed)) else composed


def snake_case(name: str) -> str:
    """A field's name as a column's: firstName → first_name; one in this form stays."""
    return _INNER_CAPITAL.sub("_", name).lower()


def _broken_up(text: str) -> str:
    parts, at = [], 0
    for run in _LONG_RUN.finditer(_classes(text)):
        start, end = run.span()
        marks = "".join([unicodedata.normalize("NFD", mark) for mark in text[start:end]])
        pieces = [marks[first : first + _PIECE] for first in range(0, len(marks), _PIECE)]
        parts += [text[at:start], _JOINER.join(pieces)]
        at = end
    return "".join([*parts, text[at:]])


def _classes(text: str) -> bytes:
    """Each character's combining class; 0: no combining mark."""
    return bytes(map(unicodedata.combining, text))
