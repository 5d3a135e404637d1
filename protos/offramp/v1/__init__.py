"""The contract: generated messages and stubs of offramp.v1."""
