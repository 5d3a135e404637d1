"""Who runs when: a sans-IO scheduler of early-exit stages and its asyncio engine."""
