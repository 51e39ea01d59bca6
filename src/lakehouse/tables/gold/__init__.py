"""Gold: one module per table, a function of certified Silver (frozen prices: and of the published Gold)."""
