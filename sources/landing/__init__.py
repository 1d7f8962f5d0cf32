"""Where uploaded files lie until they are imported: `base` is the protocol, one file per storage."""
