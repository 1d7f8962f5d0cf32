"""The shared core: settings, session, tables, locks, ledger, Kafka client settings, logs, metrics."""
