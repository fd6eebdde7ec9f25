"""The scripts that an exported package gets, copied as they are."""
