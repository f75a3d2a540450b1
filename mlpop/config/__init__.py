"""What the configuration files may say: strict pydantic models, one module a kind of block."""
