"""Objects in S3 and what speaks its protocol: sent and fetched whole, with digests and patience.

Importing this package does not import boto3; the first request does.
"""

from mlpop.storage.errors import NoSuchObject, StoreAway
from mlpop.storage.patience import Patience, persist
from mlpop.storage.s3 import ObjectInfo, ObjectStore, StoreSettings, check_remote

__all__ = [
    "NoSuchObject",
    "ObjectInfo",
    "ObjectStore",
    "Patience",
    "StoreAway",
    "StoreSettings",
    "check_remote",
    "persist",
]
