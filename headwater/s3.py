"""S3 by boto3, for all who keep files there: a client, multipart uploads, and what its faults mean.

Takes 40 MB and half a second to import: only where a storage is S3.
"""

import io
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from headwater.archive_settings import S3Access
from headwater.errors import DataLossError, HeadwaterError, SetupError, TransientError
from headwater.log import logger
from headwater.s3_reader import ObjectReader

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
ATTEMPTS = 4  # of one request, by the client itself
CONNECTIONS = 32
READ_AHEAD = 1 << 20
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_SET_UP = frozenset(
    {"AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidBucketName",
     "PermanentRedirect", "AuthorizationHeaderMalformed", "403"}
)  # fmt: skip
FAULTS = (ClientError, BotoCoreError)
_log = logger(__name__)


def client(s3: S3Access) -> Any:
    """A client of boto3, for any thread."""
    secrets = {
        name: given.get_secret_value()
        for name, given in (
            ("aws_access_key_id", s3.access_key_id),
            ("aws_secret_access_key", s3.secret_access_key),
        )
        if given
    }
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        signature_version="s3v4",
        s3={"addressing_style": "path"} if s3.endpoint else {},
        # Servers that are not Amazon's may not know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=s3.endpoint, region_name=s3.region, config=config, **secrets)


def code(fault: ClientError | BotoCoreError) -> str:
    """What S3 calls the fault, or else boto3."""
    return str(fault.response["Error"]["Code"]) if isinstance(fault, ClientError) else type(fault).__name__


def explained(fault: ClientError | BotoCoreError, section: str) -> HeadwaterError:
    """By the code alone: the text may hold what was sent. `section`: of the settings, that may be wrong."""
    found = code(fault)
    if found in _SET_UP or found == "NoCredentialsError":
        return SetupError(f"S3 refuses with {found}: check {section} and the rights on the bucket")
    return TransientError(f"S3 fails with {found}")


def opened(client: Any, place: dict[str, str], missing: str, section: str) -> BinaryIO:
    """An object from its start, seekable, not read into memory. DataLossError(`missing`) without one."""
    try:
        found = client.head_object(**place)
    except FAULTS as fault:
        if code(fault) in MISSING:
            raise DataLossError(missing) from None
        raise explained(fault, section) from None
    raw = ObjectReader(client, place, found["ContentLength"], found["ETag"])
    return io.BufferedReader(raw, READ_AHEAD)


class S3Parts:
    """A multipart upload: completed when it is whole, aborted when it is not."""

    def __init__(self, client: Any, place: dict[str, str], section: str) -> None:
        self._client = client
        self._place = place
        self._section = section
        self._etags: list[dict[str, Any]] = []
        try:
            self._upload = place | {"UploadId": client.create_multipart_upload(**place)["UploadId"]}
        except FAULTS as fault:
            raise explained(fault, section) from None

    def put(self, part: bytes | memoryview) -> None:
        number = len(self._etags) + 1
        try:
            answer = self._client.upload_part(**self._upload, PartNumber=number, Body=bytes(part))
        except FAULTS as fault:
            raise explained(fault, self._section) from None
        self._etags.append({"PartNumber": number, "ETag": answer["ETag"]})

    def seal(self) -> None:
        """All parts have come: nothing is held for them here. `complete` may follow at any time."""

    def complete(self) -> None:
        if not self._etags:
            self.put(b"")  # S3 completes no upload without a part
        try:
            parts = {"Parts": self._etags}
            self._client.complete_multipart_upload(**self._upload, MultipartUpload=parts)
        except FAULTS as fault:
            raise explained(fault, self._section) from None

    def discard(self) -> None:
        """Also a file whose completion was not answered: it may be there."""
        for action, place in (("abort_multipart_upload", self._upload), ("delete_object", self._place)):
            try:
                getattr(self._client, action)(**place)
            except FAULTS as fault:
                if code(fault) != "NoSuchUpload":
                    _log.warning("upload_not_discarded", action=action, code=code(fault))


def abort_uploads(client: Any, bucket: str, prefix: str, begun_before: datetime | None = None) -> int:
    """Abort uploads under the prefix that nobody will complete (begun until then; None: all): how many."""
    removed = 0
    pages = client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for upload in page.get("Uploads", ()):
            if begun_before is None or upload["Initiated"] <= begun_before:
                with suppress(client.exceptions.NoSuchUpload):  # finished in this moment
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                removed += 1
    return removed
