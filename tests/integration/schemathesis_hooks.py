"""What schemathesis has to know to compare the API with its document; loaded by its command line."""

from typing import Any

import schemathesis

NDJSON = "application/x-ndjson"
KEY_HEADER = "Idempotency-Key"


@schemathesis.serializer(NDJSON)
def lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A batch's body is text already; anything else is what a wrong client would send."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Without consent the answer is 202 whatever else is wrong: no schema can be broken then."""
    payload = case.body.get("payload") if isinstance(case.body, dict) else None
    return not (isinstance(payload, dict) and payload.get("consent") is False)


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, **_options: Any) -> None:
    """A key in the header and another in the body is 422, which JSON Schema cannot say."""
    if case.headers and isinstance(case.body, dict) and case.body.get("idempotency_key") is not None:
        case.headers.pop(KEY_HEADER, None)
