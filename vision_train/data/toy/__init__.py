"""Small data sets in the formats that users have, made without a network."""
