"""The torch_scatter that is not installed."""
