"""What an S3 server refuses for good, in words: trying again would not help, a person can."""

from __future__ import annotations

import re
from typing import NamedTuple


class Refusal(NamedTuple):
    """S3's codes or the clients' own words, the reason and the remedy for a person; ``later`` it may pass."""

    pattern: str
    reason: str
    remedy: str
    later: bool = False


_REFUSALS = (
    Refusal("NoSuchBucket", "there is no such bucket", "Correct the URL, or make it with `dexter store init`"),
    Refusal(
        "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken(Exception)?|InvalidSecurity",
        "the server does not know these credentials",
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE",
    ),
    Refusal(
        "no providers in chain|NoCredentials|Unable to locate credentials|Partial credentials",
        "there are no credentials",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    Refusal("RequestTimeTooSkewed", "this machine's clock and the server's are too far apart", "Set the clock"),
    Refusal(
        "AccessDenied|AllAccessDisabled|Forbidden|403",
        "these credentials may not do this there",
        "Ask the bucket's owner for the rights that infra/ lists, or check AWS_PROFILE",
    ),
    Refusal(
        "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket is in another region",
        "Set AWS_REGION to it",
    ),
    Refusal(
        r"\w*QuotaExceeded|InsufficientStorage|No space left on device",
        "there is no space left",
        "Make room; what was built is kept",
    ),
    Refusal(
        "Connection refused|dns error|Could not connect|Connect timeout|tcp connect error",
        "nobody answers there",
        "Check AWS_ENDPOINT_URL and the network",
        later=True,
    ),
)


_CODE = re.compile(r"(?:An error occurred|unhandled error) \((\w+)\)")  # as boto3 and Icechunk tell it
_CAUSE = re.compile(r"^[ |`]*-> ", re.MULTILINE)  # Icechunk's, each on a line of its own; some are codes


def refusal(told: str) -> Refusal | None:
    """What storage told, when trying again at once would not help; names of files and buckets in it say nothing."""
    said = "\n".join([*_CODE.findall(told), _CAUSE.sub("", told)])
    return next((each for each in _REFUSALS if re.search(rf"^(?:{each.pattern})(?![\w.])", said, re.MULTILINE)), None)
