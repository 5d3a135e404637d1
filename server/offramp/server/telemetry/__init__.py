"""What the server tells of itself: metrics, traces, logs; docs/telemetry.md is its table."""
