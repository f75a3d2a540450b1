"""What can go wrong with an object store, in words a user can act upon."""

from typing import Any

from mlpop.errors import DataError, MlpopError, TrackingError

_REFUSED = {
    "AccessDenied",
    "AccountProblem",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "401",
    "403",
}
_MISSING = {"NoSuchKey", "404", "NotFound"}


class StoreAway(TrackingError):
    """The object store cannot be reached or does not answer: it may be back later."""


class NoSuchObject(DataError):
    """There is no object of this name."""


def code_of(error: BaseException) -> tuple[str, int]:
    """Return S3's error code and the HTTP status of botocore's `ClientError`, else ("", 0)."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    if not isinstance(response, dict):
        return "", 0
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code, int(status or 0)


def is_passing(error: Exception) -> bool:
    """Whether a failure of a request may pass by itself."""
    from boto3.exceptions import RetriesExceededError
    from botocore import exceptions as boto
    from s3transfer.exceptions import RetriesExceededError as Streaming

    if isinstance(error, boto.ClientError):
        code, status = code_of(error)
        busy = code in ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable")
        return busy or status >= 500 or status == 429
    away = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ConnectionError)
    if isinstance(error, boto.SSLError):
        return False
    return isinstance(error, (*away, RetriesExceededError, Streaming, StoreAway))


def translated(error: Exception, what: str, endpoint: str) -> MlpopError:
    """Return the error to raise instead of boto3's at work on `what`, an object or a bucket."""
    from botocore import exceptions as boto

    code, status = code_of(error)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if isinstance(error, MlpopError):
        return error
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return TrackingError(
            f"{what}: no credentials for the object store; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials"
        )
    if code in _REFUSED:
        return TrackingError(
            f"{what}: the object store {endpoint} refuses the credentials ({code}); check "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they are allowed to do"
        )
    if code == "NoSuchBucket":
        return TrackingError(f"{what}: no such bucket at {endpoint}; make it, or correct its name")
    if code in _MISSING or status == 404:
        return NoSuchObject(f"{what}: no such object at {endpoint}")
    if isinstance(error, boto.ReadTimeoutError | boto.ConnectTimeoutError):
        return StoreAway(f"{what}: the object store {endpoint} does not answer: {reason}")
    if is_passing(error):
        return StoreAway(f"{what}: the object store {endpoint} cannot be used now: {reason}")
    return TrackingError(f"{what}: the object store {endpoint}: {reason}")
