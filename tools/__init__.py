"""Programs that use a trained model: python -m tools.NAME. No other code imports them."""
