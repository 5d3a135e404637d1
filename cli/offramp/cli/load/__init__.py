"""The load generator: when messages are due, what they meet, and what that took."""
