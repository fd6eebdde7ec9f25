"""The predefined patches, one concern a file; ``index`` lists them without importing them."""
