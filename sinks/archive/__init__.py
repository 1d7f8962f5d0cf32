"""Where the archive is kept: `base` is the protocol, one file per storage, `manifest` what an hour has."""
