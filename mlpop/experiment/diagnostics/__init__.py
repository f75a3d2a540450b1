"""What is tested of a posterior, each test one module: how to add one says `diagnostic`."""
