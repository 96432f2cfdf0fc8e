"""Programs that use a trained model: python -m tools.NAME. Nothing imports them."""
