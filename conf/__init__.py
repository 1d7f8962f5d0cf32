"""Configuration files, data only; a package so that the shipped zip can read them."""
