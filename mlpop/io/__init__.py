"""Files, records, locks, the cache, and objects in S3 with digests and patience.

Importing this package does not import boto3; the first request does.
"""
