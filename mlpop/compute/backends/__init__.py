"""Who runs tasks: serial, processes, Dask; and where its workers come from."""
