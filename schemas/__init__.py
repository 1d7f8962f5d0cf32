"""What data looks like: contracts, table definitions, migrations, index mappings."""
