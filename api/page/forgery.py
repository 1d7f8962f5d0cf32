"""Whether a form came from our own page: a token that only the page of this very session can hold."""

import hashlib
import hmac

from starlette.requests import Request

from api.metrics import REFUSED
from api.problems import Problem

FIELD = "csrf"
_PURPOSE = b"headwater form"
_OWN = frozenset({"same-origin", "none"})


def form_token(secret: str) -> str:
    """The token of the forms of a session or a visit, whose secret the cookie holds."""
    return hmac.new(secret.encode(), _PURPOSE, hashlib.sha256).hexdigest()


def check_form(request: Request, secret: str | None, given: str | None) -> None:
    """Raises Problem 403 unless the token is that of the cookie's secret, and no other site sent the form."""
    expected = form_token(secret or "")
    same = hmac.compare_digest(expected.encode(), (given or "").encode())
    if not secret or not same or request.headers.get("sec-fetch-site", "same-origin") not in _OWN:
        REFUSED.labels("form_expired").inc()
        raise Problem(403, "form_expired")
