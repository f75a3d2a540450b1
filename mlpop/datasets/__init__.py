"""Datasets on disk: shards, index files, loading, scaling, remote copies."""
