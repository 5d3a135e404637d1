"""The gRPC server: the one place where scheduler, model and wire meet."""
